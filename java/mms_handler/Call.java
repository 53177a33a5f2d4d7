package mms_handler;

import com.amazonaws.ml.mms.http.InternalServerException;
import com.amazonaws.ml.mms.http.ServiceUnavailableException;
import com.amazonaws.ml.mms.util.NettyUtils;
import io.netty.buffer.ByteBuf;
import io.netty.channel.ChannelHandlerContext;
import io.netty.handler.codec.http.FullHttpRequest;
import io.netty.handler.codec.http.FullHttpResponse;
import io.netty.handler.codec.http.HttpResponseStatus;
import io.netty.util.concurrent.EventExecutor;
import java.nio.charset.StandardCharsets;
import java.util.Iterator;
import java.util.Map;

/** A client's request on the plane. */
final class Call {
    /** When it came. */
    final long sinceNs = System.nanoTime();

    final String id;
    private final ChannelHandlerContext client;
    private final FullHttpRequest request;

    /** How many parts the body has; 0 if it is the client's body as it came. */
    final int parts;

    private ByteBuf body;

    /** @param body what the worker gets; owned by this object from now on */
    Call(ChannelHandlerContext client, FullHttpRequest request, ByteBuf body, int parts) {
        this.client = client;
        this.request = request;
        this.body = body;
        this.parts = parts;
        String own = request.headers().get(RequestId.HEADER);
        id = own == null ? NettyUtils.getRequestId(client.channel()) : own;
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

    /** Write the id and the headers as lines: "id", and a name and a value for each header. */
    void writeHead(ByteBuf out) {
        out.writeCharSequence(id, StandardCharsets.US_ASCII);
        Iterator<Map.Entry<CharSequence, CharSequence>> headers =
                request.headers().iteratorCharSequence();
        while (headers.hasNext()) {
            Map.Entry<CharSequence, CharSequence> header = headers.next();
            out.writeByte('\n');
            out.writeCharSequence(header.getKey(), StandardCharsets.ISO_8859_1);
            out.writeByte('\n');
            out.writeCharSequence(header.getValue(), StandardCharsets.ISO_8859_1);
        }
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

    void answer(FullHttpResponse response) {
        release();
        NettyUtils.sendHttpResponse(client, response, true);
    }

    void fail(HttpResponseStatus status, String message) {
        release();
        NettyUtils.sendError(client, status, new InternalServerException(message));
    }

    /** It took too long. */
    void expire(String message) {
        release();
        NettyUtils.sendError(client, HttpResponseStatus.GATEWAY_TIMEOUT, new TimedOut(message));
    }

    /** There are too many others. */
    void refuse(String message) {
        release();
        NettyUtils.sendError(
                client,
                HttpResponseStatus.SERVICE_UNAVAILABLE,
                new ServiceUnavailableException(message));
    }
}
