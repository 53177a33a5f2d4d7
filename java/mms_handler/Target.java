package mms_handler;

import com.amazonaws.ml.mms.servingsdk.impl.PluginsManager;
import com.amazonaws.ml.mms.util.NettyUtils;
import com.amazonaws.ml.mms.wlm.ModelManager;
import io.netty.handler.codec.http.HttpMethod;
import io.netty.handler.codec.http.QueryStringDecoder;
import java.util.Arrays;
import java.util.HashSet;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;

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

    /** Longer URIs are not kept. */
    private static final int SHORT = 128;

    private static final int MOST_RECENT = 1000;
    private static final Map<String, Target> RECENT = new ConcurrentHashMap<>();

    private final QueryStringDecoder uri;
    private final String[] path;

    /** The latest name that {@link #as} was asked for, and its answer: most targets have one. */
    private volatile String[] latest = {null, null};

    /** What a URI addresses; clients ask for the same few again and again. */
    static Target of(String uri) {
        Target target = RECENT.get(uri);
        if (target == null) {
            target = new Target(uri);
            if (RECENT.size() >= MOST_RECENT) {
                RECENT.clear();
            }
            if (uri.length() <= SHORT) {
                RECENT.put(uri, target);
            }
        }
        return target;
    }

    private Target(String uri) {
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
        boolean health = isOpenInference() && path.length == 4 && path[2].equals("health");
        return get && (health || first().equals("ping") && path.length == 2);
    }

    /** Whether it is a path of the Open Inference Protocol, or that of the API's description. */
    boolean isOpenInference() {
        return isDescription() || first().equals("v2") && path.length != 3; // a model may be "v2"
    }

    /** Whether it is the description of the API. */
    boolean isDescription() {
        return first().equals("openapi.json") && path.length == 2;
    }

    /** Whether it asks a model for tensors. */
    boolean isInference() {
        if (path.length < 5 || !first().equals("v2")) {
            return false;
        }
        boolean plain = path.length == 5 && path[4].equals("infer");
        boolean versioned =
                path.length == 7 && path[4].equals("versions") && path[6].equals("infer");
        return path[2].equals("models") && (plain || versioned);
    }

    /** The path's segments, after an empty first one. */
    String[] segments() {
        return path;
    }

    /** Whether it is /models or below, but not /models/NAME/invoke, which clients may send. */
    boolean isManagement() {
        return first().equals("models") && model() == null;
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
                if (isInference()) {
                    return path[3];
                }
                boolean legacy = path.length == 3 && path[2].equals("predict");
                return legacy && !isEndpoint() ? path[1] : null;
        }
    }

    /** The version that is to answer; null if the URI names none. */
    String version() {
        if (isInference()) {
            return path.length == 7 ? path[5] : null;
        }
        return first().equals("predictions") && path.length > 3 ? path[3] : null;
    }

    /** A URI by which MMS invokes the model that it calls {@code mmsName}. */
    String as(String mmsName) {
        String[] known = latest;
        if (!mmsName.equals(known[0])) {
            known = new String[] {mmsName, written(mmsName)};
            latest = known;
        }
        return known[1];
    }

    private String written(String mmsName) {
        if (isInference()) {
            return "/predictions/" + mmsName;
        }
        if (path.length > 2 && mmsName.equals(model())) {
            return uri.uri();
        }
        boolean predictions = first().equals("predictions"); // MMS does not read its query
        String newPath = predictions ? "/predictions/" + mmsName : "/models/" + mmsName + "/invoke";
        return newPath + uri.uri().substring(uri.rawPath().length());
    }

    private String first() {
        return path.length > 1 ? path[1] : "";
    }

    private String modelOfInvocations() {
        try {
            String name = NettyUtils.getParameter(uri, "model_name", "");
            return name.isEmpty() ? defaultModel() : name;
        } catch (IllegalArgumentException e) {
            return "";
        }
    }

    private static String defaultModel() {
        Routes routes = Routes.current();
        if (routes != null) {
            return routes.invocations;
        }
        ModelManager manager = ModelManager.getInstance();
        boolean any = Plugin.GATE != null && !Plugin.MULTI_MODEL;
        Set<String> names = any ? manager.getModels().keySet() : manager.getStartupModels();
        return names.size() == 1 ? String.join("", names) : "";
    }
}
