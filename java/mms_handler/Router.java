package mms_handler;

import com.amazonaws.ml.mms.archive.ModelNotFoundException;
import com.amazonaws.ml.mms.util.NettyUtils;
import io.netty.buffer.ByteBuf;
import io.netty.buffer.ByteBufUtil;
import io.netty.buffer.Unpooled;
import io.netty.channel.ChannelDuplexHandler;
import io.netty.channel.ChannelHandlerContext;
import io.netty.channel.ChannelPromise;
import io.netty.handler.codec.http.FullHttpRequest;
import io.netty.handler.codec.http.FullHttpResponse;
import io.netty.handler.codec.http.HttpHeaderNames;
import io.netty.handler.codec.http.HttpMethod;
import io.netty.handler.codec.http.HttpResponseStatus;
import io.netty.handler.codec.http.HttpUtil;
import io.netty.util.AsciiString;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;

/**
 * Passes each request of one connection to the version of its model that is to answer it, under the
 * name that MMS has for it.  The reply says which version that was.
 */
final class Router extends ChannelDuplexHandler {
    /** When a client should try again whose model is being loaded. */
    private static final String RETRY_AFTER_S = "2";

    /** The name of no model: MMS's name of a version is none that a client can use. */
    private static final String NO_MODEL = "-";

    private static final AsciiString MODEL_VERSION = AsciiString.cached("X-Model-Version");

    /** How many requests each version has, by MMS's name. */
    private static final Map<String, Integer> IN_FLIGHT = new ConcurrentHashMap<>();

    /** The version that has a request; null if none has. */
    private Routes.Version version;

    /** Whether the request is for MMS's description of the model. */
    private boolean isDescription;

    @Override
    public void channelRead(ChannelHandlerContext context, Object message) {
        FullHttpRequest request = (FullHttpRequest) message;
        Target target = Target.of(request.uri());
        String name = target.model();
        if (name == null) {
            context.fireChannelRead(request);
            return;
        }
        String uri = request.uri();
        if (Routes.current() == null) {
            request.setUri(name.isEmpty() ? uri : target.as(name));
            context.fireChannelRead(request);
            request.setUri(uri);
            return;
        }
        Routes.Version chosen = choose(name, target.version());
        if (chosen != null || Routes.version(name) != null) {
            request.setUri(target.as(chosen == null ? NO_MODEL : chosen.mmsName));
        }
        if (name.isEmpty() && !Routes.current().isLoading()) {
            context.fireChannelRead(request); // MMS says what is missing
        } else if (chosen != null && chosen.state == Routes.State.READY) {
            isDescription = request.method().equals(HttpMethod.OPTIONS);
            if (target.isInference()) {
                OpenInference.mark(request, chosen.version);
            }
            context.fireChannelRead(request);
        } else {
            NettyUtils.requestReceived(context.channel(), request);
            request.release();
            refuse(context, target, chosen);
        }
        request.setUri(uri); // handlers in front of this one log what the client has sent
    }

    /** Choose the version for a request, which it has from now on; null if there is none. */
    private Routes.Version choose(String name, String asked) {
        for (; ; end()) {
            Routes routes = Routes.current();
            Routes.Version chosen = routes.choose(name, asked);
            if (chosen != null && chosen.state == Routes.State.READY) {
                begin(chosen);
            }
            if (routes == Routes.current()) { // else a version may seem to have no request any more
                return chosen;
            }
        }
    }

    /** @param chosen null if there is no such version, or if the request names no model */
    private static void refuse(
            ChannelHandlerContext context, Target target, Routes.Version chosen) {
        String name = target.model();
        if (chosen == null && !name.isEmpty()) {
            String asked = target.version() == null ? name : name + "/" + target.version();
            NettyUtils.sendError(
                    context,
                    HttpResponseStatus.NOT_FOUND,
                    new ModelNotFoundException("Model not found: " + asked));
        } else if (chosen != null && chosen.state == Routes.State.IDLE) {
            String path = chosen.name + (chosen.percent > 0 ? "" : "/" + chosen.version);
            String how = "PUT /models/" + path + "?min_worker=1 of the management API loads it";
            send(context, unavailable("the model has no workers; " + how));
        } else {
            FullHttpResponse reply = unavailable("the model is being loaded; try again later");
            reply.headers().set(HttpHeaderNames.RETRY_AFTER, RETRY_AFTER_S);
            send(context, reply);
        }
    }

    private static FullHttpResponse unavailable(String message) {
        FullHttpResponse reply =
                Checks.error(HttpResponseStatus.SERVICE_UNAVAILABLE, "Unavailable", message);
        reply.headers().remove(HttpHeaderNames.CONNECTION);
        return reply;
    }

    private static void send(ChannelHandlerContext context, FullHttpResponse reply) {
        NettyUtils.sendHttpResponse(context, reply, true);
    }

    // --- requests in flight ---

    /** A line with the name of each model that has requests, and their number. */
    static String inFlight() {
        StringBuilder lines = new StringBuilder();
        IN_FLIGHT.forEach((name, count) -> lines.append(name + " " + count + "\n"));
        return lines.toString();
    }

    /** How many requests MMS's model has. */
    static int inFlight(String mmsName) {
        return IN_FLIGHT.getOrDefault(mmsName, 0);
    }

    private void begin(Routes.Version chosen) {
        version = chosen;
        IN_FLIGHT.merge(version.mmsName, 1, Integer::sum);
    }

    private void end() {
        if (version != null) {
            IN_FLIGHT.computeIfPresent(version.mmsName, (name, n) -> n > 1 ? n - 1 : null);
            version = null;
        }
    }

    @Override
    public void channelInactive(ChannelHandlerContext context) {
        end();
        context.fireChannelInactive();
    }

    // --- replies ---

    @Override
    public void write(ChannelHandlerContext context, Object message, ChannelPromise promise) {
        if (!Checks.isFinal(message)) {
            context.write(message, promise);
            return;
        }
        FullHttpResponse reply = (FullHttpResponse) message;
        if (version != null) {
            reply = withModelName(reply);
            reply.headers().set(MODEL_VERSION, version.version);
            end();
        }
        context.write(reply, promise);
    }

    /** MMS's errors and descriptions name the model as MMS does. */
    private FullHttpResponse withModelName(FullHttpResponse reply) {
        String mmsName = version.mmsName;
        boolean isOfMms = isDescription || reply.status().code() >= 400;
        if (!isOfMms || mmsName.equals(version.name) || !contains(reply.content(), mmsName)) {
            return reply;
        }
        String text = reply.content().toString(StandardCharsets.ISO_8859_1);
        ByteBuf body =
                Unpooled.copiedBuffer(
                        text.replace(mmsName, version.name), StandardCharsets.ISO_8859_1);
        FullHttpResponse named = reply.replace(body);
        HttpUtil.setContentLength(named, body.readableBytes());
        reply.release();
        return named;
    }

    private static boolean contains(ByteBuf content, String text) {
        ByteBuf needle = Unpooled.copiedBuffer(text, StandardCharsets.US_ASCII);
        return ByteBufUtil.indexOf(needle, content) >= 0;
    }
}
