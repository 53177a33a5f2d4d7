package mms_handler;

import com.amazonaws.ml.mms.util.NettyUtils;
import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.gson.JsonObject;
import com.google.gson.stream.JsonReader;
import com.google.gson.stream.JsonToken;
import io.netty.buffer.ByteBuf;
import io.netty.buffer.Unpooled;
import io.netty.channel.ChannelHandler.Sharable;
import io.netty.channel.ChannelHandlerContext;
import io.netty.channel.ChannelInboundHandlerAdapter;
import io.netty.handler.codec.http.DefaultFullHttpResponse;
import io.netty.handler.codec.http.FullHttpRequest;
import io.netty.handler.codec.http.FullHttpResponse;
import io.netty.handler.codec.http.HttpHeaderNames;
import io.netty.handler.codec.http.HttpHeaderValues;
import io.netty.handler.codec.http.HttpMethod;
import io.netty.handler.codec.http.HttpRequest;
import io.netty.handler.codec.http.HttpResponse;
import io.netty.handler.codec.http.HttpResponseStatus;
import io.netty.handler.codec.http.HttpUtil;
import io.netty.handler.codec.http.HttpVersion;
import java.io.IOException;
import java.io.StringReader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.Paths;
import java.util.List;

/**
 * The paths of the Open Inference Protocol, and the description of the whole API.
 *
 * <p>Health is answered here, from the table of versions; what a model takes and gives, from files
 * that the supervisor writes. A request for a prediction gets the content type that means a tensor
 * to a worker, and goes the way of all others.
 */
@Sharable
final class OpenInference extends ChannelInboundHandlerAdapter {
    private static final String TYPE = "application/vnd.mms-handler.infer+json";

    /** The bytes of a body's JSON, if values in binary follow it. */
    static final String HEADER_LENGTH = "Inference-Header-Content-Length";

    private static final String METHODS = "GET, HEAD, OPTIONS";
    private static final Gson GSON = new GsonBuilder().disableHtmlEscaping().create();
    private static final Path DOCUMENTS =
            Paths.get(System.getProperty("java.io.tmpdir"), "documents");

    @Override
    public void channelRead(ChannelHandlerContext context, Object message) {
        FullHttpRequest request = (FullHttpRequest) message;
        Target target = Target.of(request.uri());
        boolean infers = target.isInference() && request.method().equals(HttpMethod.POST);
        if (infers) {
            mark(request);
        }
        if (infers || !target.isOpenInference()) {
            context.fireChannelRead(request);
            return;
        }
        NettyUtils.requestReceived(context.channel(), request);
        request.release();
        NettyUtils.sendHttpResponse(context, reply(request.method(), target), true);
    }

    /** Say that the body has tensors; any other type that the client gives it means nothing here. */
    private static void mark(FullHttpRequest request) {
        List<String> lengths = request.headers().getAll(HEADER_LENGTH);
        String all = String.join(", ", lengths).replace("\\", "\\\\").replace("\"", "\\\"");
        String type = lengths.isEmpty() ? TYPE : TYPE + "; header-length=\"" + all + "\"";
        request.headers().set(HttpHeaderNames.CONTENT_TYPE, type);
    }

    /** What the body of a request with tensors is, whatever type the client gives it. */
    static String type(HttpRequest request) {
        boolean binary = request.headers().contains(HEADER_LENGTH);
        return binary ? "application/octet-stream" : "application/json";
    }

    /** Say which version answers a request with tensors, for its reply. */
    static void mark(FullHttpRequest request, String version) {
        String type = request.headers().get(HttpHeaderNames.CONTENT_TYPE);
        String marked = type + "; version=\"" + version + "\"";
        request.headers().set(HttpHeaderNames.CONTENT_TYPE, marked);
    }

    private static FullHttpResponse reply(HttpMethod method, Target target) {
        boolean get = method.equals(HttpMethod.GET) || method.equals(HttpMethod.HEAD);
        if (get && !target.isInference()) {
            return target.isDescription() ? document("openapi") : answer(target.segments());
        }
        String methods = target.isInference() ? "POST, OPTIONS" : METHODS;
        boolean options = method.equals(HttpMethod.OPTIONS);
        FullHttpResponse reply =
                options
                        ? json(HttpResponseStatus.OK, "")
                        : error(HttpResponseStatus.METHOD_NOT_ALLOWED, "the path has " + methods);
        reply.headers().set(HttpHeaderNames.ALLOW, methods);
        return reply;
    }

    /** @param path "v2" and what follows it, after an empty segment */
    private static FullHttpResponse answer(String[] path) {
        String last = path[path.length - 1];
        if (path.length == 2) {
            return document("server");
        }
        if (path[2].equals("health") && path.length == 4 && last.equals("live")) {
            return json(HttpResponseStatus.OK, "{\"live\": true}");
        }
        if (path[2].equals("health") && path.length == 4 && last.equals("ready")) {
            return ready("", Workers.health().status == 200);
        }
        boolean versioned = path.length > 5 && path[4].equals("versions");
        int rest = path.length - (versioned ? 6 : 4);
        boolean known = path[2].equals("models") && (rest == 0 || rest == 1 && last.equals("ready"));
        if (!known) {
            return error(HttpResponseStatus.NOT_FOUND, "there is no such path");
        }
        return ofModel(path[3], versioned ? path[5] : null, rest == 1);
    }

    private static FullHttpResponse ofModel(String name, String asked, boolean whetherReady) {
        Routes.Version version = Routes.main(name, asked);
        if (version == null) {
            String shown = asked == null ? name : name + "/" + asked;
            return error(HttpResponseStatus.NOT_FOUND, "Model not found: " + shown);
        }
        boolean ready = version.state == Routes.State.READY;
        if (whetherReady) {
            return ready("\"name\": \"" + version.name + "\", ", ready);
        }
        if (ready || version.state == Routes.State.IDLE) {
            return document("models/" + version.mmsName);
        }
        return error(
                HttpResponseStatus.SERVICE_UNAVAILABLE,
                "the model is being loaded; try again later");
    }

    private static FullHttpResponse ready(String members, boolean ready) {
        HttpResponseStatus status =
                ready ? HttpResponseStatus.OK : HttpResponseStatus.SERVICE_UNAVAILABLE;
        return json(status, "{" + members + "\"ready\": " + ready + "}");
    }

    /** A file of the supervisor's. */
    private static FullHttpResponse document(String name) {
        try {
            byte[] bytes = Files.readAllBytes(DOCUMENTS.resolve(name + ".json"));
            return json(HttpResponseStatus.OK, Unpooled.wrappedBuffer(bytes));
        } catch (IOException e) {
            return error(
                    HttpResponseStatus.SERVICE_UNAVAILABLE,
                    "the server is about to describe this; try again later");
        }
    }

    private static FullHttpResponse error(HttpResponseStatus status, String message) {
        return json(status, errorText(message));
    }

    private static String errorText(String message) {
        JsonObject error = new JsonObject();
        error.addProperty("error", message);
        return GSON.toJson(error);
    }

    private static FullHttpResponse json(HttpResponseStatus status, String text) {
        return json(status, Unpooled.copiedBuffer(text, StandardCharsets.UTF_8));
    }

    private static FullHttpResponse json(HttpResponseStatus status, ByteBuf body) {
        FullHttpResponse reply = new DefaultFullHttpResponse(HttpVersion.HTTP_1_1, status, body);
        reply.headers().set(HttpHeaderNames.CONTENT_TYPE, HttpHeaderValues.APPLICATION_JSON);
        HttpUtil.setContentLength(reply, body.readableBytes());
        return reply;
    }

    // --- errors of others ---

    /**
     * The response in the protocol's form, if it is an error on one of its paths: of the gate, of MMS
     * or of a worker.
     */
    static HttpResponse inForm(String uri, HttpResponse response) {
        boolean error = response.status().code() >= 400 && response instanceof FullHttpResponse;
        if (!error || !uri.startsWith("/v2") || !Target.of(uri).isOpenInference()) {
            return response;
        }
        FullHttpResponse full = (FullHttpResponse) response;
        String text = full.content().toString(StandardCharsets.UTF_8);
        String message = message(text);
        if (message == null) {
            return response; // it is from here, or a handler's own
        }
        String said = message.isEmpty() ? full.status().reasonPhrase() : message;
        ByteBuf content = Unpooled.copiedBuffer(errorText(said), StandardCharsets.UTF_8);
        FullHttpResponse replaced = full.replace(content);
        replaced.headers().set(HttpHeaderNames.CONTENT_TYPE, HttpHeaderValues.APPLICATION_JSON);
        HttpUtil.setContentLength(replaced, content.readableBytes());
        full.release();
        return replaced;
    }

    /** The message of an error; a text that is no JSON object is one; null of any other object. */
    private static String message(String text) {
        try (JsonReader reader = new JsonReader(new StringReader(text))) {
            reader.beginObject();
            while (reader.hasNext()) {
                if (reader.nextName().equals("message") && reader.peek() == JsonToken.STRING) {
                    return reader.nextString();
                }
                reader.skipValue(); // however deep it is
            }
            return null;
        } catch (IOException | IllegalStateException e) { // no JSON, or another value
            return text;
        }
    }
}
