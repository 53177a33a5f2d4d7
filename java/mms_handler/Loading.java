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
 * Models that the supervisor is about to load: those that it was started with, and those whose
 * processes ended. For these MMS's 404 becomes 503 with Retry-After.
 *
 * <p>The supervisor keeps a file with the name of each such model in a folder beside {@link
 * Plugin#READY_FILE}.
 */
final class Loading extends ChannelDuplexHandler {
    private static final File FOLDER =
            Plugin.READY_FILE == null
                    ? null
                    : new File(new File(Plugin.READY_FILE).getParentFile(), "loading");

    private static final String RETRY_AFTER_S = "2";
    private static final String BODY =
            "{\n"
                    + "  \"code\": 503,\n"
                    + "  \"type\": \"Unavailable\",\n"
                    + "  \"message\": \"the model is being loaded; try again later\"\n"
                    + "}\n";

    private String uri = "";

    /** The names of the models; empty without a supervisor. */
    static Set<String> names() {
        String[] names = FOLDER == null ? null : FOLDER.list();
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
        if (message instanceof FullHttpResponse && isMissing((FullHttpResponse) message)) {
            FullHttpResponse missing = (FullHttpResponse) message;
            context.write(unavailable(missing), promise);
            ReferenceCountUtil.release(missing);
        } else {
            context.write(message, promise);
        }
    }

    /** MMS answers 404 for an unknown model; 400 for /invocations if it has no model at all. */
    private boolean isMissing(FullHttpResponse response) {
        int status = response.status().code();
        String model = status == 404 || status == 400 ? new Target(uri).model() : null;
        if (model == null) {
            return false;
        }
        Set<String> names = names();
        if (model.isEmpty()) {
            return !names.isEmpty();
        }
        return names.contains(model) && (!isRegistered(model) || isOfMms(response));
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

    private static FullHttpResponse unavailable(FullHttpResponse missing) {
        FullHttpResponse response =
                new DefaultFullHttpResponse(
                        missing.protocolVersion(),
                        HttpResponseStatus.SERVICE_UNAVAILABLE,
                        Unpooled.copiedBuffer(BODY, StandardCharsets.US_ASCII));
        response.headers().set(missing.headers());
        response.headers().set(HttpHeaderNames.CONTENT_TYPE, HttpHeaderValues.APPLICATION_JSON);
        response.headers().set(HttpHeaderNames.CONTENT_LENGTH, BODY.length());
        response.headers().set(HttpHeaderNames.RETRY_AFTER, RETRY_AFTER_S);
        return response;
    }
}
