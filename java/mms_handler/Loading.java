package mms_handler;

import com.amazonaws.ml.mms.wlm.ModelManager;
import io.netty.buffer.Unpooled;
import io.netty.channel.ChannelDuplexHandler;
import io.netty.channel.ChannelHandlerContext;
import io.netty.channel.ChannelPromise;
import io.netty.handler.codec.http.DefaultFullHttpResponse;
import io.netty.handler.codec.http.FullHttpResponse;
import io.netty.handler.codec.http.HttpHeaderNames;
import io.netty.handler.codec.http.HttpHeaderValues;
import io.netty.handler.codec.http.HttpRequest;
import io.netty.handler.codec.http.HttpResponseStatus;
import io.netty.util.ReferenceCountUtil;
import java.io.File;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.HashSet;
import java.util.Set;

/**
 * Models that are registered with the supervisor, but not with MMS. For these MMS's 404 becomes 503.
 *
 * <p>The supervisor keeps a file with the name of each such model in one of two folders beside
 * {@link Plugin#READY_FILE}: "loading" has those that it is about to load, because it was started
 * with them or their processes ended; "idle" has those that are registered without workers.
 */
final class Loading extends ChannelDuplexHandler {
    private static final File FOLDER = folder("loading");
    private static final File IDLE = folder("idle");
    private static final String RETRY_AFTER_S = "2";

    private String uri = "";

    private static File folder(String name) {
        return Plugin.READY_FILE == null
                ? null
                : new File(new File(Plugin.READY_FILE).getParentFile(), name);
    }

    /** The names of the models that are about to be loaded; empty without a supervisor. */
    static Set<String> names() {
        return names(FOLDER);
    }

    /** The names of the models without workers. */
    static Set<String> idle() {
        return names(IDLE);
    }

    private static Set<String> names(File folder) {
        String[] names = folder == null ? null : folder.list();
        return new HashSet<>(Arrays.asList(names == null ? new String[0] : names));
    }

    /** How long the model that is loaded for the longest time has not been served. */
    static long longestMs() {
        long longest = 0;
        for (String name : names()) {
            long since = new File(FOLDER, name).lastModified();
            longest = Math.max(longest, since == 0 ? 0 : System.currentTimeMillis() - since);
        }
        return longest;
    }

    @Override
    public void channelRead(ChannelHandlerContext context, Object message) {
        uri = ((HttpRequest) message).uri();
        context.fireChannelRead(message);
    }

    @Override
    public void write(ChannelHandlerContext context, Object message, ChannelPromise promise) {
        FullHttpResponse unavailable =
                message instanceof FullHttpResponse
                        ? unavailable((FullHttpResponse) message)
                        : null;
        if (unavailable == null) {
            context.write(message, promise);
        } else {
            context.write(unavailable, promise);
            ReferenceCountUtil.release(message);
        }
    }

    /**
     * What a client gets in place of this response; null if it gets this one. MMS answers 404 for
     * an unknown model; 400 for /invocations if it has no model at all.
     */
    private FullHttpResponse unavailable(FullHttpResponse response) {
        int status = response.status().code();
        String model = status == 404 || status == 400 ? new Target(uri).model() : null;
        if (model == null || isRegistered(model) && !isOfMms(response)) {
            return null;
        }
        Set<String> loading = names();
        if (loading.contains(model) || model.isEmpty() && !loading.isEmpty()) {
            FullHttpResponse later =
                    unavailable(response, "the model is being loaded; try again later");
            later.headers().set(HttpHeaderNames.RETRY_AFTER, RETRY_AFTER_S);
            return later;
        }
        String load = "PUT /models/" + model + "?min_worker=1 of the management API loads it";
        return idle().contains(model)
                ? unavailable(response, "the model has no workers; " + load)
                : null;
    }

    private static boolean isRegistered(String model) {
        return ModelManager.getInstance().getModels().containsKey(model);
    }

    /** Whether MMS did not find the model, which may have been registered since: no script's 404. */
    private static boolean isOfMms(FullHttpResponse response) {
        return response.content()
                .toString(StandardCharsets.US_ASCII)
                .contains("\"type\": \"ModelNotFoundException\"");
    }

    /** @param message of ASCII, without quotes */
    private static FullHttpResponse unavailable(FullHttpResponse missing, String message) {
        String body =
                "{\n"
                        + "  \"code\": 503,\n"
                        + "  \"type\": \"Unavailable\",\n"
                        + "  \"message\": \""
                        + message
                        + "\"\n"
                        + "}\n";
        FullHttpResponse response =
                new DefaultFullHttpResponse(
                        missing.protocolVersion(),
                        HttpResponseStatus.SERVICE_UNAVAILABLE,
                        Unpooled.copiedBuffer(body, StandardCharsets.US_ASCII));
        response.headers().set(missing.headers());
        response.headers().set(HttpHeaderNames.CONTENT_TYPE, HttpHeaderValues.APPLICATION_JSON);
        response.headers().set(HttpHeaderNames.CONTENT_LENGTH, body.length());
        return response;
    }
}
