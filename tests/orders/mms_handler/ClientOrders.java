package mms_handler;

import static mms_handler.Order.expect;

import java.util.ArrayDeque;
import java.util.HashMap;
import java.util.Map;
import java.util.SplittableRandom;

/**
 * Orders of requests of some clients, and of very many others, who share one table of limits.  What
 * is let in is compared with buckets that are filled in steps of a thousandth of a token.
 */
final class ClientOrders implements Order {
    private static final int EVENTS = 400;
    private static final int MOST = 50;

    /** How many requests are under way at most: more than the table spares. */
    private static final int CONNECTIONS = 30;

    private final SplittableRandom random;
    private final StringBuilder trace;
    private final int ratePerS;
    private final int burst;
    private final int concurrency;
    private final boolean crowded;
    private final Clients clients;
    private final Map<String, Bucket> buckets = new HashMap<>();
    private final ArrayDeque<Decided> underWay = new ArrayDeque<>();
    private long nowMs;
    private int strangers;

    ClientOrders(long seed, StringBuilder trace) {
        random = new SplittableRandom(seed);
        this.trace = trace;
        ratePerS = new int[] {1, 2, 5, 10, 100}[random.nextInt(5)];
        burst = 1 + random.nextInt(6);
        concurrency = 1 + random.nextInt(4);
        crowded = random.nextInt(2) == 0;
        clients = new Clients((double) ratePerS, burst, concurrency, MOST);
    }

    @Override
    public void run() {
        for (int i = 0; i < EVENTS; i++) {
            happen(random.nextInt(10));
            expect(clients.size() <= MOST, clients.size() + " clients are remembered");
        }
        while (!underWay.isEmpty()) {
            leave();
        }
        for (Bucket bucket : buckets.values()) {
            expect(bucket.underWay == 0, "a request is still under way");
        }
    }

    private void happen(int choice) {
        if (choice == 0) {
            nowMs += random.nextInt(3 * 1000 / ratePerS + 2);
        } else if (choice == 1 && crowded) {
            crowd();
        } else if (choice < 5) {
            leave();
        } else if (underWay.size() < CONNECTIONS) {
            ask("client " + random.nextInt(3));
        }
    }

    /** Many addresses that nobody has seen before ask once each. */
    private void crowd() {
        note("strangers");
        for (int i = 0; i < 3 * MOST; i++) {
            Clients.Decision decision = clients.ask("stranger " + strangers++, nowMs * 1_000_000);
            expect(decision.limit == null, "a stranger is refused");
            if (i % 3 == 0) {
                clients.leave(decision.client);
            }
        }
    }

    private void leave() {
        Decided oldest = underWay.poll();
        if (oldest != null) {
            note(oldest.name + " has its answer");
            clients.leave(oldest.decision.client);
            buckets.get(oldest.name).underWay--;
        }
    }

    private void ask(String name) {
        Clients.Decision decision = clients.ask(name, nowMs * 1_000_000);
        note(name + " asks at " + nowMs + " ms: " + (decision.limit == null ? "in" : "refused"));
        Bucket bucket = buckets.computeIfAbsent(name, key -> new Bucket());
        bucket.fill();
        if (!crowded) { // else it may have been forgotten
            bucket.check(name, decision);
        }
        if (decision.limit == null) {
            bucket.thousandths -= 1000;
            bucket.underWay++;
            underWay.add(new Decided(name, decision));
        }
    }

    private void note(String words) {
        if (trace != null) {
            trace.append(words).append('\n');
        }
    }

    private static final class Decided {
        final String name;
        final Clients.Decision decision;

        Decided(String name, Clients.Decision decision) {
            this.name = name;
            this.decision = decision;
        }
    }

    /** What a client may ask for: a token for each request. */
    private final class Bucket {
        private long thousandths = burst * 1000L;
        private long filledMs = nowMs;
        private int underWay;

        /** Add what has come since the last time: each millisecond as many thousandths as the rate. */
        void fill() {
            thousandths = Math.min(burst * 1000L, thousandths + (nowMs - filledMs) * ratePerS);
            filledMs = nowMs;
        }

        void check(String name, Clients.Decision decision) {
            if (underWay >= concurrency) {
                expect(decision.limit == Limits.CLIENT_CONCURRENCY, name + " has too many under way");
            } else if (thousandths < 1000) {
                expect(decision.limit == Limits.CLIENT_RATE, name + " asks too often");
                long waitMs = (1000 - thousandths + ratePerS - 1) / ratePerS;
                long givenMs = (decision.waitNs + 999_999) / 1_000_000;
                expect(givenMs == waitMs, name + " waits " + givenMs + " ms, not " + waitMs);
            } else {
                expect(decision.limit == null, name + " is refused");
            }
        }
    }
}
