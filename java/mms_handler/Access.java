package mms_handler;

import com.amazonaws.ml.mms.util.ConfigManager;
import io.netty.handler.codec.http.FullHttpResponse;
import io.netty.handler.codec.http.HttpHeaderNames;
import io.netty.handler.codec.http.HttpHeaders;
import io.netty.handler.codec.http.HttpRequest;
import io.netty.handler.codec.http.HttpResponse;
import io.netty.handler.codec.http.HttpResponseStatus;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Paths;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;

/**
 * Who may ask: clients with the right token, if there are tokens; and if the server listens on this
 * machine alone, no page of another site that a browser here has open.
 */
final class Access {
    private static final String SCHEME = "Bearer ";
    private static final Map<String, List<byte[]>> TOKENS = tokens();
    private static final Set<String> HOSTS = hosts();

    /** Whether hosts and origins are checked: else a browser's pages have other ways anyway. */
    private static final boolean CHECKS_HOSTS = Plugin.ALLOWED_HOSTS != null || isLoopback(gate());

    private Access() {}

    /** Read the tokens; end Java if that is impossible. */
    static void start() {}

    /** The refusal of this request; null if it may be answered. */
    static HttpResponse refusal(HttpRequest request) {
        if (!CHECKS_HOSTS && TOKENS.isEmpty()) {
            return null;
        }
        Target target = Target.of(request.uri());
        boolean management = Plugin.ADMIN_PORT != null && target.isManagement();
        if (!management && CHECKS_HOSTS && isForeign(request.headers())) {
            return Checks.error(
                    HttpResponseStatus.FORBIDDEN,
                    "Forbidden",
                    "the Host or the Origin is not this server's; set MMS_HANDLER_ALLOWED_HOSTS if "
                            + "clients call it by another name");
        }
        List<byte[]> tokens = TOKENS.get(management ? "management" : "inference");
        boolean open = target.isPing(request.method()) || Pages.isOpen(request);
        if (tokens == null || !management && open) {
            return null;
        }
        List<String> credentials = request.headers().getAll(HttpHeaderNames.AUTHORIZATION);
        if (place(credentials, tokens) >= 0) {
            if (!management) {
                request.headers().remove(HttpHeaderNames.AUTHORIZATION); // scripts can print headers
            }
            return null;
        }
        return unauthorized(credentials.stream().anyMatch(Access::isBearer));
    }

    private static boolean isBearer(String credentials) {
        return credentials.regionMatches(true, 0, SCHEME, 0, SCHEME.length());
    }

    /** Which of several tokens for inference a request has; null if that tells no clients apart. */
    static String client(HttpRequest request) {
        List<byte[]> tokens = TOKENS.get("inference");
        if (tokens == null || tokens.size() < 2) {
            return null;
        }
        int place = place(request.headers().getAll(HttpHeaderNames.AUTHORIZATION), tokens);
        return place < 0 ? null : "token " + (place + 1);
    }

    /** Which token was sent; negative if none of these.  Takes the same time for every one. */
    private static int place(List<String> credentials, List<byte[]> tokens) {
        if (credentials.size() != 1 || !isBearer(credentials.get(0))) {
            return -1;
        }
        byte[] sent = digest(credentials.get(0).substring(SCHEME.length()).trim());
        int place = -1;
        for (int i = 0; i < tokens.size(); i++) {
            place = MessageDigest.isEqual(sent, tokens.get(i)) ? i : place;
        }
        return place;
    }

    private static HttpResponse unauthorized(boolean wrong) {
        FullHttpResponse reply =
                Checks.error(
                        HttpResponseStatus.UNAUTHORIZED,
                        "Unauthorized",
                        "send the header Authorization: Bearer TOKEN, with the token of the "
                                + "server's token file");
        String challenge = "Bearer realm=\"mms_handler\"";
        challenge += wrong ? ", error=\"invalid_token\"" : "";
        reply.headers().set(HttpHeaderNames.WWW_AUTHENTICATE, challenge);
        return reply;
    }

    private static boolean isForeign(HttpHeaders headers) {
        String host = headers.get(HttpHeaderNames.HOST);
        if (host != null && !isAllowed(host)) {
            return true;
        }
        String origin = headers.get(HttpHeaderNames.ORIGIN);
        if (origin == null || origin.equals(ConfigManager.getInstance().getCorsAllowedOrigin())) {
            return false;
        }
        return !"*".equals(ConfigManager.getInstance().getCorsAllowedOrigin())
                && !origin.equalsIgnoreCase("http://" + host)
                && !origin.equalsIgnoreCase("https://" + host);
    }

    /** @param host with a port or without */
    private static boolean isAllowed(String host) {
        int port = host.lastIndexOf(':');
        boolean hasPort = port > host.lastIndexOf(']');
        String name = (hasPort ? host.substring(0, port) : host).toLowerCase();
        return HOSTS.contains(name) || isLoopback(name);
    }

    private static boolean isLoopback(String name) {
        return name.equals("localhost")
                || name.equals("[::1]")
                || name.startsWith("127.") && name.matches("127(\\.\\d{1,3}){3}");
    }

    private static String gate() {
        return Plugin.GATE == null ? "" : Plugin.GATE.substring(0, Plugin.GATE.lastIndexOf(':'));
    }

    private static Set<String> hosts() {
        Set<String> hosts = new HashSet<>();
        hosts.add(gate().toLowerCase());
        if (Plugin.ALLOWED_HOSTS != null) {
            hosts.addAll(Arrays.asList(Plugin.ALLOWED_HOSTS.toLowerCase().split(",")));
        }
        return hosts;
    }

    /** The SHA-256 of each token by its use: inference or management. */
    private static Map<String, List<byte[]>> tokens() {
        Map<String, List<byte[]>> tokens = new HashMap<>();
        if (Plugin.TOKEN_FILE != null) {
            try {
                for (String line : Files.readAllLines(Paths.get(Plugin.TOKEN_FILE))) {
                    String[] words = line.split(" ");
                    tokens.computeIfAbsent(words[0], use -> new ArrayList<>())
                            .add(digest(words[1]));
                }
            } catch (IOException | RuntimeException e) {
                System.err.printf("the tokens cannot be read: %s%n", e.getClass().getSimpleName());
                Runtime.getRuntime().halt(1);
            }
        }
        return tokens;
    }

    private static byte[] digest(String token) {
        try {
            byte[] bytes = token.getBytes(StandardCharsets.UTF_8);
            return MessageDigest.getInstance("SHA-256").digest(bytes);
        } catch (NoSuchAlgorithmException e) {
            throw new IllegalStateException(e); // every Java has it
        }
    }
}
