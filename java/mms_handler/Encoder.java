package mms_handler;

import io.netty.buffer.ByteBuf;
import io.netty.channel.ChannelHandlerContext;
import io.netty.channel.ChannelPromise;
import io.netty.handler.codec.http.FullHttpResponse;
import io.netty.handler.codec.http.HttpResponseEncoder;
import io.netty.handler.codec.http.HttpResponseStatus;
import java.util.Iterator;
import java.util.Map;

/**
 * Writes responses by netty's rules.  netty's own encoder makes a buffer of the head and another of
 * the body, and to send two buffers takes longer than to copy a small body.
 */
final class Encoder extends HttpResponseEncoder {
    /** Longer bodies are not copied. */
    private static final int SMALL = 8192;

    private static final byte[] SPACE = {' '};
    private static final byte[] COLON = {':', ' '};
    private static final byte[] LINE_END = {'\r', '\n'};

    private final Connection connection;

    /** The latest head. */
    private final Text head = new Text(512);

    Encoder(Connection connection) {
        this.connection = connection;
    }

    @Override
    public void write(ChannelHandlerContext context, Object message, ChannelPromise promise)
            throws Exception {
        if (!(message instanceof FullHttpResponse)) {
            super.write(context, message, promise);
            return;
        }
        FullHttpResponse response = (FullHttpResponse) message;
        boolean empty = connection.answersHead() || isContentAlwaysEmpty(response);
        sanitizeHeadersBeforeEncode(response, empty);
        ByteBuf body = response.content();
        int bytes = empty ? 0 : body.readableBytes();
        putHead(response);
        ByteBuf out = context.alloc().directBuffer(head.length() + (bytes > SMALL ? 0 : bytes));
        head.writeTo(out);
        if (bytes > SMALL) {
            context.write(out);
            context.write(body, promise);
        } else {
            out.writeBytes(body, body.readerIndex(), bytes);
            body.release();
            context.write(out, promise);
        }
    }

    /** Write the status and the headers to {@link #head}. */
    private void putHead(FullHttpResponse response) {
        HttpResponseStatus status = response.status();
        head.clear();
        head.put(response.protocolVersion().text(), SPACE);
        head.put(status.codeAsText(), SPACE);
        head.put(status.reasonPhrase(), LINE_END);
        Iterator<Map.Entry<CharSequence, CharSequence>> headers =
                response.headers().iteratorCharSequence();
        while (headers.hasNext()) {
            Map.Entry<CharSequence, CharSequence> header = headers.next();
            head.put(header.getKey(), COLON);
            head.put(header.getValue(), LINE_END);
        }
        head.put("", LINE_END);
    }
}
