package mms_handler;

import com.amazonaws.ml.mms.servingsdk.impl.PluginsManager;
import com.amazonaws.ml.mms.util.NettyUtils;
import com.amazonaws.ml.mms.wlm.ModelManager;
import io.netty.handler.codec.http.HttpMethod;
import io.netty.handler.codec.http.QueryStringDecoder;
import java.util.Arrays;
import java.util.HashSet;
import java.util.Set;

/** What a URI addresses, by the rules of MMS's InferenceRequestHandler. */
final class Target {
    private static final Set<HttpMethod> FOR_ENDPOINTS =
            new HashSet<>(
                    Arrays.asList(
                            HttpMethod.GET,
                            HttpMethod.HEAD,
                            HttpMethod.POST,
                            HttpMethod.PUT,
                            HttpMethod.DELETE));

    private final QueryStringDecoder uri;
    private final String[] path;

    Target(String uri) {
        this.uri = new QueryStringDecoder(uri);
        path = path(this.uri);
    }

    /** The path's segments, after an empty first one; none if a % lacks its digits. */
    private static String[] path(QueryStringDecoder uri) {
        try {
            return uri.path().split("/");
        } catch (IllegalArgumentException e) {
            return new String[0];
        }
    }

    /** Whether it is an endpoint of a plug-in. */
    boolean isEndpoint() {
        return PluginsManager.getInstance().getInferenceEndpoints().containsKey(first());
    }

    /** Whether an endpoint of a plug-in can be asked so: MMS passes four methods on. */
    boolean isForEndpoint(HttpMethod method) {
        return FOR_ENDPOINTS.contains(method);
    }

    /** Whether a health check asks, which cannot send a token. */
    boolean isPing(HttpMethod method) {
        boolean get = method.equals(HttpMethod.GET) || method.equals(HttpMethod.HEAD);
        return get && first().equals("ping") && path.length == 2;
    }

    /** Whether it is /models or /models/NAME, which MMS has only on its management address. */
    boolean isManagement() {
        return first().equals("models") && path.length < 4;
    }

    /** The name of the model to invoke, registered or not; null if the URI invokes none. */
    String model() {
        switch (first()) {
            case "invocations":
                return path.length == 2 ? modelOfInvocations() : null;
            case "predictions":
                return path.length > 2 ? path[2] : null;
            case "models":
                return path.length == 4 && path[3].equals("invoke") ? path[2] : null;
            default:
                boolean legacy = path.length == 3 && path[2].equals("predict");
                return legacy && !isEndpoint() ? path[1] : null;
        }
    }

    private String first() {
        return path.length > 1 ? path[1] : "";
    }

    private String modelOfInvocations() {
        Set<String> startup = ModelManager.getInstance().getStartupModels();
        try {
            String name = NettyUtils.getParameter(uri, "model_name", "");
            return name.isEmpty() && startup.size() == 1 ? String.join("", startup) : name;
        } catch (IllegalArgumentException e) {
            return "";
        }
    }
}
