package mms_handler;

import com.amazonaws.ml.mms.util.ConfigManager;
import io.netty.buffer.ByteBuf;
import io.netty.handler.codec.http.DefaultFullHttpResponse;
import io.netty.handler.codec.http.DefaultHttpHeaders;
import io.netty.handler.codec.http.EmptyHttpHeaders;
import io.netty.handler.codec.http.FullHttpResponse;
import io.netty.handler.codec.http.HttpHeaderNames;
import io.netty.handler.codec.http.HttpHeaders;
import io.netty.handler.codec.http.HttpResponseStatus;
import io.netty.handler.codec.http.HttpVersion;

/** A worker's reply to one request of its batch. */
final class Reply {
    /** What MMS adds to each answer (NettyUtils.sendHttpResponse). */
    static final HttpHeaders HEADERS = headers();

    /** The request's place in the batch. */
    final int index;

    private final int status;
    private final String head;
    private final ByteBuf body;

    /**
     * @param head lines: the phrase, and a name and a value for each header
     * @param body a part of the worker's frame
     */
    Reply(int index, int status, String head, ByteBuf body) {
        this.index = index;
        this.status = status;
        this.head = head;
        this.body = body;
    }

    private static HttpHeaders headers() {
        ConfigManager settings = ConfigManager.getInstance();
        HttpHeaders headers = new DefaultHttpHeaders(false);
        headers.set(HttpHeaderNames.PRAGMA, "no-cache");
        headers.set(HttpHeaderNames.CACHE_CONTROL, "no-cache; no-store, must-revalidate, private");
        headers.set(HttpHeaderNames.EXPIRES, "Thu, 01 Jan 1970 00:00:00 UTC");
        allow(headers, HttpHeaderNames.ACCESS_CONTROL_ALLOW_ORIGIN, settings.getCorsAllowedOrigin());
        allow(
                headers,
                HttpHeaderNames.ACCESS_CONTROL_ALLOW_METHODS,
                settings.getCorsAllowedMethods());
        allow(
                headers,
                HttpHeaderNames.ACCESS_CONTROL_ALLOW_HEADERS,
                settings.getCorsAllowedHeaders());
        return headers;
    }

    private static void allow(HttpHeaders headers, CharSequence name, String value) {
        if (value != null && !value.isEmpty()) {
            headers.set(name, value);
        }
    }

    /** The response to the client, with the body where it is. */
    FullHttpResponse response() {
        int end = head.indexOf('\n');
        String phrase = end < 0 ? head : head.substring(0, end);
        HttpResponseStatus line = HttpResponseStatus.valueOf(status);
        if (!phrase.equals(line.reasonPhrase())) {
            line = HttpResponseStatus.valueOf(status, phrase);
        }
        HttpHeaders headers = HEADERS.copy();
        while (end >= 0) {
            int middle = head.indexOf('\n', end + 1);
            int last = head.indexOf('\n', middle + 1);
            String value = head.substring(middle + 1, last < 0 ? head.length() : last);
            headers.set(head.substring(end + 1, middle), value);
            end = last;
        }
        return new DefaultFullHttpResponse(
                HttpVersion.HTTP_1_1, line, body.retain(), headers, EmptyHttpHeaders.INSTANCE);
    }
}
