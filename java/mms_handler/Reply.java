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
import io.netty.util.AsciiString;

/** A worker's reply to one request of its batch. */
final class Reply {
    /** What MMS adds to each answer (NettyUtils.sendHttpResponse). */
    static final HttpHeaders HEADERS = headers();

    /** The request's place in the batch. */
    final int index;

    final int status;
    private final AsciiString head;
    private final ByteBuf body;

    /**
     * @param head lines: the phrase, and a name and a value for each header
     * @param body a part of the worker's frame
     */
    Reply(int index, int status, AsciiString head, ByteBuf body) {
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
        int end = lineEnd(0);
        HttpResponseStatus line = HttpResponseStatus.valueOf(status);
        if (!line.reasonPhrase().contentEquals(head.subSequence(0, end, false))) {
            line = HttpResponseStatus.valueOf(status, head.toString(0, end));
        }
        HttpHeaders headers = HEADERS.copy();
        for (int middle = lineEnd(end + 1); middle < head.length(); middle = lineEnd(end + 1)) {
            int last = lineEnd(middle + 1);
            headers.set(
                    head.subSequence(end + 1, middle, false),
                    head.subSequence(middle + 1, last, false));
            end = last;
        }
        return new DefaultFullHttpResponse(
                HttpVersion.HTTP_1_1, line, body.retain(), headers, EmptyHttpHeaders.INSTANCE);
    }

    /** Where the line that starts at {@code start} ends. */
    private int lineEnd(int start) {
        int end = head.indexOf('\n', start);
        return end < 0 ? head.length() : end;
    }
}
