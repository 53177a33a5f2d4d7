package mms_handler;

import io.netty.buffer.ByteBuf;
import io.netty.channel.ChannelFuture;
import io.netty.channel.ChannelFutureListener;
import io.netty.channel.ChannelHandlerContext;
import io.netty.handler.codec.http.FullHttpRequest;
import io.netty.handler.codec.http.FullHttpResponse;
import io.netty.handler.codec.http.HttpHeaderNames;
import io.netty.handler.codec.http.HttpHeaderValues;
import io.netty.handler.codec.http.HttpHeaders;
import io.netty.handler.codec.http.HttpResponseStatus;
import io.netty.util.AsciiString;
import io.netty.util.concurrent.EventExecutor;
import java.util.Iterator;
import java.util.Map;
import java.util.concurrent.TimeUnit;

/** A client's request on the plane. */
final class Call {
    /** The headers that a worker needs of each request; of several, the last counts. */
    private static final AsciiString[] ASKED = {
        HttpHeaderNames.CONTENT_TYPE, HttpHeaderNames.ACCEPT, HttpHeaderNames.CONTENT_ENCODING
    };

    private static final byte[] LINE_END = {'\n'};

    /** When it came. */
    final long sinceNs = System.nanoTime();

    final String id;
    private final ChannelHandlerContext client;
    private final FullHttpRequest request;

    private final ModelCounts counts;

    /** How many parts the body has; 0 if it is the client's body as it came. */
    final int parts;

    private ByteBuf body;

    /** @param body what the worker gets; owned by this object from now on */
    Call(
            ChannelHandlerContext client,
            ModelCounts counts,
            FullHttpRequest request,
            ByteBuf body,
            int parts) {
        this.client = client;
        this.counts = counts;
        this.request = request;
        this.body = body;
        this.parts = parts;
        counts.requestBytes.add(body.readableBytes());
        String own = request.headers().get(RequestId.HEADER);
        id = own == null ? RequestId.next() : own;
    }

    int bytes() {
        return body.readableBytes();
    }

    /** The body, which the caller has to release. */
    ByteBuf takeBody() {
        ByteBuf taken = body;
        body = null;
        return taken;
    }

    /** Write lines: the id, the values of ASKED, and a name and a value for each header. */
    void writeHead(Text out) {
        out.put(id, LINE_END);
        for (AsciiString name : ASKED) {
            out.put(last(name), LINE_END);
        }
        Iterator<Map.Entry<CharSequence, CharSequence>> headers =
                request.headers().iteratorCharSequence();
        while (headers.hasNext()) {
            Map.Entry<CharSequence, CharSequence> header = headers.next();
            out.put(header.getKey(), LINE_END);
            out.put(header.getValue(), LINE_END);
        }
        if (Plugin.TELLS_QUEUE) { // the last one counts
            long waitedNs = System.nanoTime() - sinceNs;
            out.put("x-queue-microseconds", LINE_END);
            out.put(String.valueOf(TimeUnit.NANOSECONDS.toMicros(waitedNs)), LINE_END);
        }
    }

    /** The last value of a header; "" if there is none. */
    private CharSequence last(AsciiString name) {
        CharSequence last = "";
        Iterator<? extends CharSequence> values =
                request.headers().valueCharSequenceIterator(name);
        while (values.hasNext()) {
            last = values.next();
        }
        return last;
    }

    EventExecutor executor() {
        return client.executor();
    }

    /** Whether its client still waits. */
    boolean isWanted() {
        return client.channel().isActive();
    }

    /** Let the access log say what a worker did for it. */
    void worked(AccessLog.Work work) {
        Connection connection = client.pipeline().get(Connection.class);
        if (connection != null) {
            connection.worked(work);
        }
    }

    void release() {
        if (body != null) {
            body.release();
            body = null;
        }
    }

    /**
     * Send the answer, as MMS does: an error ends the connection.
     *
     * @param response with {@link Reply#HEADERS}
     */
    void answer(FullHttpResponse response) {
        release();
        int status = response.status().code();
        HttpHeaders headers = response.headers();
        headers.set(RequestId.HEADER, id);
        headers.set(HttpHeaderNames.CONTENT_LENGTH, response.content().readableBytes());
        headers.set(
                HttpHeaderNames.CONNECTION,
                status < 400 ? HttpHeaderValues.KEEP_ALIVE : HttpHeaderValues.CLOSE);
        counts.answered(status, System.nanoTime() - sinceNs);
        counts.responseBytes.add(response.content().readableBytes());
        ChannelFuture sent = client.writeAndFlush(response);
        if (status >= 400) {
            sent.addListener(ChannelFutureListener.CLOSE);
        }
    }

    void fail(HttpResponseStatus status, String message) {
        error(status, "InternalServerException", message);
    }

    /** It took too long. */
    void expire(String message) {
        error(HttpResponseStatus.GATEWAY_TIMEOUT, "TimedOut", message);
    }

    /** There are too many others. */
    void refuse(String message) {
        error(HttpResponseStatus.SERVICE_UNAVAILABLE, "ServiceUnavailableException", message);
    }

    private void error(HttpResponseStatus status, String type, String message) {
        FullHttpResponse response = Checks.error(status, type, message);
        response.headers().add(Reply.HEADERS);
        answer(response);
    }
}
