package mms_handler;

import io.netty.handler.codec.http.FullHttpResponse;
import io.netty.handler.codec.http.HttpHeaderNames;
import io.netty.handler.codec.http.HttpMethod;
import io.netty.handler.codec.http.HttpRequest;
import io.netty.handler.codec.http.HttpResponse;
import io.netty.util.NetUtil;
import java.net.Inet6Address;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.SocketAddress;
import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.concurrent.TimeUnit;

/**
 * How many predictions each client may ask for: so many a second, and so many at one time. A client
 * is a token, if there are several; otherwise an address, or the 64 bits of a network of IPv6.
 */
final class Clients {
    /** Whether there is any limit. */
    static final boolean ON = Plugin.CLIENT_RATE != null || Plugin.CLIENT_CONCURRENCY != null;

    /** So many are remembered; beyond that, those that have asked for nothing for longest go. */
    private static final int MOST = 10_000;

    /** How many of those that still wait for an answer are spared at a time. */
    private static final int SPARED = 16;

    private static final long START_NS = System.nanoTime();

    private static final Clients ALL =
            new Clients(Plugin.CLIENT_RATE, Plugin.CLIENT_BURST, Plugin.CLIENT_CONCURRENCY, MOST);

    /** The time between two requests at the highest rate; 0 if there is no limit. */
    private final long intervalNs;

    /** How far ahead of that a client may be. */
    private final long burstNs;

    private final int concurrency;
    private final int most;

    /** The client that has asked last is the last one. */
    private final LinkedHashMap<String, Client> byName = new LinkedHashMap<>(16, 0.75f, true);

    /**
     * @param ratePerS requests a second; null for any
     * @param burst how many may come at once; null for a second's
     * @param concurrency how many may be under way; null for any
     * @param most how many clients are remembered
     */
    Clients(Double ratePerS, Integer burst, Integer concurrency, int most) {
        double rate = ratePerS == null ? 0 : ratePerS;
        intervalNs = rate == 0 ? 0 : Math.max(1, (long) (1e9 / rate));
        burstNs = intervalNs * (burst == null ? (long) Math.ceil(rate) : burst);
        this.concurrency = concurrency == null ? Integer.MAX_VALUE : concurrency;
        this.most = most;
    }

    /** What a client has asked for. */
    static final class Client {
        /** When it would have had to ask, had it kept to the rate. */
        private long dueNs;

        private int underWay;
    }

    /** Whether a client's request is let in. */
    static final class Decision {
        final Client client;

        /** What it is refused for; null if it is let in. */
        final Limits limit;

        /** How long the client has to wait before another one can be let in. */
        final long waitNs;

        Decision(Client client, Limits limit, long waitNs) {
            this.client = client;
            this.limit = limit;
            this.waitNs = waitNs;
        }
    }

    /**
     * Let a client's request in, or not.  One that is let in must {@link #leave}.
     *
     * @param nowNs the time, which never goes back
     */
    synchronized Decision ask(String name, long nowNs) {
        Client client = byName.get(name);
        if (client == null) {
            client = new Client();
            client.dueNs = nowNs;
            byName.put(name, client);
            forgetOldest();
        }
        long dueNs = Math.max(client.dueNs, nowNs) + intervalNs;
        if (client.underWay >= concurrency) {
            return new Decision(client, Limits.CLIENT_CONCURRENCY, TimeUnit.SECONDS.toNanos(1));
        }
        if (dueNs - nowNs > burstNs) {
            return new Decision(client, Limits.CLIENT_RATE, dueNs - nowNs - burstNs);
        }
        client.dueNs = dueNs;
        client.underWay++;
        return new Decision(client, null, 0);
    }

    /** The request that was let in is answered, or lost. */
    synchronized void leave(Client client) {
        client.underWay--;
    }

    /** Keep the table small: whoever has many addresses is not stopped by a memory of each. */
    private void forgetOldest() {
        for (int spared = 0; byName.size() > most; spared++) {
            Iterator<Map.Entry<String, Client>> oldest = byName.entrySet().iterator();
            Map.Entry<String, Client> entry = oldest.next();
            String name = entry.getKey();
            Client client = entry.getValue();
            oldest.remove();
            if (client.underWay > 0 && spared < SPARED) {
                byName.put(name, client);
            }
        }
    }

    synchronized int size() {
        return byName.size();
    }

    // --- requests ---

    /** A request that was let in is answered, or lost. */
    static void left(Client client) {
        ALL.leave(client);
    }

    /**
     * Let a request in, or refuse it before its body is read.
     *
     * @param token which of several tokens the request has; null if there are none
     * @return null for a request that no limit is for
     */
    static Decision decide(HttpRequest request, SocketAddress peer, String token) {
        if (request.method().equals(HttpMethod.OPTIONS)
                || Target.of(request.uri()).model() == null) {
            return null;
        }
        String name = token == null ? address(request, peer) : token;
        Decision decision = ALL.ask(name, System.nanoTime() - START_NS);
        if (decision.limit != null) {
            decision.limit.hit("from " + name);
        }
        return decision;
    }

    /** The reply to a request that is not let in. */
    static HttpResponse refusal(Decision decision) {
        long seconds = (decision.waitNs + 999_999_999) / 1_000_000_000;
        FullHttpResponse reply =
                Checks.error(
                        decision.limit.status,
                        "TooManyRequests",
                        decision.limit.message() + "; try again in " + seconds + " s");
        reply.headers().remove(HttpHeaderNames.CONNECTION); // the next request may be let in
        reply.headers().set(HttpHeaderNames.RETRY_AFTER, seconds);
        return reply;
    }

    // --- who asks ---

    /** The address of the client; of the proxies in front, each has added the one that it saw. */
    private static String address(HttpRequest request, SocketAddress peer) {
        if (Plugin.PROXIES > 0) {
            String list = String.join(",", request.headers().getAll("X-Forwarded-For"));
            String[] seen = list.split(",");
            InetAddress first =
                    seen.length < Plugin.PROXIES
                            ? null
                            : NetUtil.createInetAddressFromIpAddressString(
                                    bare(seen[seen.length - Plugin.PROXIES].trim()));
            if (first != null) {
                return name(first);
            }
        }
        return peer instanceof InetSocketAddress
                ? name(((InetSocketAddress) peer).getAddress())
                : "an unknown address";
    }

    /** An address without the port that some proxies add. */
    static String bare(String address) {
        if (address.startsWith("[")) {
            return address.substring(1, Math.max(1, address.indexOf(']')));
        }
        int colon = address.indexOf(':');
        boolean hasPort = colon >= 0 && colon == address.lastIndexOf(':');
        return hasPort ? address.substring(0, colon) : address;
    }

    /** An address of IPv4; of IPv6 the network, in which one client may have all addresses. */
    static String name(InetAddress address) {
        if (!(address instanceof Inet6Address)) {
            return address.getHostAddress();
        }
        byte[] bytes = address.getAddress();
        StringBuilder network = new StringBuilder();
        for (int i = 0; i < 8; i += 2) {
            network.append(Integer.toHexString((bytes[i] & 0xff) << 8 | bytes[i + 1] & 0xff));
            network.append(':');
        }
        return network.append(":/64").toString();
    }
}
