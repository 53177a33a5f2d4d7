package mms_handler;

import com.amazonaws.ml.mms.http.ErrorResponse;
import com.amazonaws.ml.mms.util.JsonUtils;
import io.netty.buffer.ByteBuf;
import io.netty.buffer.Unpooled;
import io.netty.handler.codec.http.DefaultFullHttpResponse;
import io.netty.handler.codec.http.FullHttpResponse;
import io.netty.handler.codec.http.HttpHeaderNames;
import io.netty.handler.codec.http.HttpHeaderValues;
import io.netty.handler.codec.http.HttpMethod;
import io.netty.handler.codec.http.HttpRequest;
import io.netty.handler.codec.http.HttpResponse;
import io.netty.handler.codec.http.HttpResponseStatus;
import io.netty.handler.codec.http.HttpStatusClass;
import io.netty.handler.codec.http.HttpUtil;
import io.netty.handler.codec.http.HttpVersion;
import java.nio.charset.StandardCharsets;

/** What the gate itself answers, from a request's head, because MMS would answer 500. */
final class Checks {
    private static final String METHODS = "GET, HEAD, POST, PUT, DELETE, OPTIONS";

    private Checks() {}

    /** Whether {@link #reply} has nothing to say: so with almost all requests. */
    static boolean isCommon(HttpRequest request) {
        return request.method().equals(HttpMethod.POST) && request.uri().indexOf('%') < 0;
    }

    /** The reply to this request; null if it is for MMS. */
    static HttpResponse reply(HttpRequest request, Target target) {
        if (!isDecodable(request.uri())) {
            return error(
                    HttpResponseStatus.BAD_REQUEST,
                    "the path or the query has a % without two hexadecimal digits");
        }
        HttpMethod method = request.method();
        if (method.equals(HttpMethod.OPTIONS) && request.uri().equals("*")) {
            return options(METHODS);
        }
        boolean known = target.isForEndpoint(method);
        if (!target.isEndpoint()) { // MMS would make a prediction for any method
            boolean asks = target.model() != null && !target.isInference();
            return asks && !known && !method.equals(HttpMethod.OPTIONS) ? notAllowed(METHODS) : null;
        }
        if (known) {
            return null;
        }
        String methods = "GET, HEAD, OPTIONS";
        return method.equals(HttpMethod.OPTIONS) ? options(methods) : notAllowed(methods);
    }

    private static FullHttpResponse notAllowed(String methods) {
        FullHttpResponse reply = options(methods);
        reply.setStatus(HttpResponseStatus.METHOD_NOT_ALLOWED);
        return reply;
    }

    private static boolean isDecodable(String uri) {
        for (int at = uri.indexOf('%'); at >= 0; at = uri.indexOf('%', at + 1)) {
            if (at + 2 >= uri.length() || !isHex(uri.charAt(at + 1)) || !isHex(uri.charAt(at + 2))) {
                return false;
            }
        }
        return true;
    }

    private static boolean isHex(char c) {
        return c < 128 && Character.digit(c, 16) >= 0;
    }

    private static FullHttpResponse options(String methods) {
        FullHttpResponse reply =
                new DefaultFullHttpResponse(HttpVersion.HTTP_1_1, HttpResponseStatus.OK);
        reply.headers().set(HttpHeaderNames.ALLOW, methods);
        HttpUtil.setContentLength(reply, 0);
        return reply;
    }

    /** The answer of a server that ends. */
    static FullHttpResponse tryLater(int seconds) {
        FullHttpResponse reply =
                new DefaultFullHttpResponse(
                        HttpVersion.HTTP_1_1, HttpResponseStatus.SERVICE_UNAVAILABLE);
        HttpUtil.setContentLength(reply, 0);
        reply.headers().set(HttpHeaderNames.RETRY_AFTER, seconds);
        return reply;
    }

    /** Whether a message is the answer to a request, and not 100 Continue. */
    static boolean isFinal(Object message) {
        return message instanceof HttpResponse
                && ((HttpResponse) message).status().codeClass() != HttpStatusClass.INFORMATIONAL;
    }

    /** Whether MMS says that it cannot serve now, not a script. */
    static boolean isUnavailable(HttpResponse response) {
        if (response.status().code() != 503 || !(response instanceof FullHttpResponse)) {
            return false;
        }
        String text = ((FullHttpResponse) response).content().toString(StandardCharsets.UTF_8);
        return !response.headers().contains(HttpHeaderNames.RETRY_AFTER)
                && text.matches("(?s)\\{\\s*\"code\": 503,\\s*\"type\": \"\\w+Exception\".*");
    }

    /** A reply like those of MMS to bad requests. */
    static FullHttpResponse error(HttpResponseStatus status, String message) {
        String type = status.code() == 503 ? "ServiceUnavailableException" : "BadRequestException";
        return error(status, type, message);
    }

    static FullHttpResponse error(HttpResponseStatus status, String type, String message) {
        ErrorResponse error = new ErrorResponse(status.code(), type, message);
        String text = JsonUtils.GSON_PRETTY.toJson(error) + "\n";
        ByteBuf body = Unpooled.copiedBuffer(text, StandardCharsets.UTF_8);
        FullHttpResponse reply = new DefaultFullHttpResponse(HttpVersion.HTTP_1_1, status, body);
        reply.headers().set(HttpHeaderNames.CONTENT_TYPE, HttpHeaderValues.APPLICATION_JSON);
        reply.headers().set(HttpHeaderNames.CONNECTION, HttpHeaderValues.CLOSE);
        HttpUtil.setContentLength(reply, body.readableBytes());
        return reply;
    }
}
