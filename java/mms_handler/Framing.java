package mms_handler;

import com.amazonaws.ml.mms.util.ConfigManager;
import io.netty.buffer.ByteBuf;
import io.netty.buffer.Unpooled;
import io.netty.channel.ChannelDuplexHandler;
import io.netty.channel.ChannelHandlerContext;
import io.netty.channel.ChannelPromise;
import io.netty.channel.socket.ChannelInputShutdownEvent;
import io.netty.channel.socket.ChannelInputShutdownReadComplete;
import io.netty.channel.socket.DuplexChannel;
import io.netty.handler.codec.http.FullHttpRequest;
import io.netty.handler.codec.http.HttpExpectationFailedEvent;
import io.netty.handler.codec.http.HttpRequestDecoder;
import io.netty.util.concurrent.FastThreadLocal;
import java.util.Arrays;
import java.util.concurrent.TimeUnit;

/**
 * The first handler of a connection: only bytes with one meaning reach netty's decoder.
 *
 * <p>A head is held back until it is whole and checked, so the decoder never sees a part of a wrong
 * one.  Behind the first error nothing is read: a {@link Malformed} follows the good requests.
 */
final class Framing extends ChannelDuplexHandler {
    /** How long a connection that was closed in the middle of a request can still read its answer. */
    private static final long LINGER_MS = 1000;

    private static final FastThreadLocal<byte[]> SCRATCH =
            new FastThreadLocal<byte[]>() {
                @Override
                protected byte[] initialValue() {
                    return new byte[Head.MAX_BYTES + 1];
                }
            };

    private static final int SHORT = 1024;

    private static final byte[] NONE = {};

    /** Longer bodies are refused. */
    private static final int MAX_BODY = ConfigManager.getInstance().getMaxRequestSize();

    private final Connection connection;

    /** The beginning of the next head. */
    private byte[] part = NONE;

    /** What is missing of the current body, if it has a length. */
    private long bodyBytes;

    /** The current body, if it is chunked. */
    private Chunks chunks;

    /** A request that has come whole and alone, as most do: it needs no decoder. */
    private FullHttpRequest whole;

    /** Where netty's decoder is, which such a request passes by; null until there is one. */
    private ChannelHandlerContext decoder;

    private boolean ignoring;
    private boolean inputEnded;

    Framing(Connection connection) {
        this.connection = connection;
    }

    /** Whether the client has sent a part of a head or of a body. */
    private boolean inRequest() {
        return part.length > 0 || bodyBytes > 0 || chunks != null;
    }

    @Override
    public void channelRead(ChannelHandlerContext context, Object message) {
        ByteBuf bytes = (ByteBuf) message;
        if (ignoring) {
            bytes.release();
            return;
        }
        byte[] withheld = part;
        int start = bytes.readerIndex();
        int good = start;
        Malformed error = null;
        try {
            for (int at = start; at < bytes.writerIndex(); ) {
                at = bodyBytes > 0 || chunks != null ? body(bytes, at) : head(bytes, at);
                good = part.length > 0 ? good : at;
            }
        } catch (Malformed e) {
            error = e;
            ignoring = true;
        }
        if (whole != null) {
            FullHttpRequest request = whole;
            whole = null;
            if (decoder == null) {
                decoder = context.pipeline().context(HttpRequestDecoder.class);
            }
            decoder.fireChannelRead(request);
            return;
        }
        if (good > start && withheld.length > 0) {
            context.fireChannelRead(Unpooled.wrappedBuffer(withheld));
        }
        if (good == bytes.writerIndex()) {
            context.fireChannelRead(bytes);
        } else {
            if (good > start) {
                context.fireChannelRead(bytes.readRetainedSlice(good - start));
            }
            bytes.release();
        }
        if (error != null) {
            part = NONE;
            context.fireChannelRead(error);
        } else if (part.length > 0) {
            connection.headBegins();
        }
    }

    /** Check a head; keep it if it is not whole. */
    private int head(ByteBuf bytes, int at) throws Malformed {
        byte[] head = SCRATCH.get();
        int kept = part.length;
        int most = Math.min(bytes.writerIndex() - at + kept, head.length);
        System.arraycopy(part, 0, head, 0, kept);
        int length = Math.min(most, kept + SHORT); // most heads are short, and bodies are not
        bytes.getBytes(at, head, kept, length - kept);
        int end = Head.end(head, length);
        if (end < 0 && length < most) {
            bytes.getBytes(at + length - kept, head, length, most - length);
            length = most;
            end = Head.end(head, length);
        }
        if (end < 0) {
            part = Arrays.copyOf(head, length);
            return at + length - kept;
        }
        Head parsed = Head.parse(head, end);
        boolean alone = kept == 0 && at == bytes.readerIndex();
        if (alone && parsed.bodyBytes == bytes.readableBytes() - end && !isLong(parsed)) {
            whole = parsed.request(Arrays.copyOf(head, end), bytes.skipBytes(end));
            return bytes.writerIndex();
        }
        part = NONE;
        bodyBytes = parsed.bodyBytes;
        chunks = parsed.chunked ? new Chunks() : null;
        return at + end - kept;
    }

    /** Whether more of the request may follow, or the whole must be refused. */
    private static boolean isLong(Head head) {
        return head.chunked || head.expects || head.bodyBytes > MAX_BODY;
    }

    private int body(ByteBuf bytes, int at) throws Malformed {
        if (chunks == null) {
            long read = Math.min(bodyBytes, bytes.writerIndex() - at);
            bodyBytes -= read;
            return at + (int) read;
        }
        int end = chunks.follow(bytes, at);
        if (chunks.ended()) {
            chunks = null;
        }
        return end;
    }

    @Override
    public void userEventTriggered(ChannelHandlerContext context, Object event) {
        if (event == ChannelInputShutdownEvent.INSTANCE) {
            inputEnded = true;
            if (ignoring || bodyBytes > 0 || chunks != null) {
                context.close();
            } else {
                connection.inputEnds();
            }
        } else if (event instanceof HttpExpectationFailedEvent) {
            ignoring = true; // whether a body follows is unknown
            context.fireUserEventTriggered(event);
        } else if (event != ChannelInputShutdownReadComplete.INSTANCE) {
            context.fireUserEventTriggered(event);
        }
    }

    /** Close; in the middle of a request only for writing at first, or a reset destroys the answer. */
    @Override
    public void close(ChannelHandlerContext context, ChannelPromise promise) {
        boolean linger = (ignoring || inRequest()) && !connection.hurried;
        ignoring = true;
        part = NONE;
        if (!linger || inputEnded || !context.channel().isActive()) {
            context.close(promise);
            return;
        }
        inputEnded = true; // the next call closes
        context.channel().config().setAutoRead(true);
        ((DuplexChannel) context.channel()).shutdownOutput();
        context.executor().schedule(() -> context.close(promise), LINGER_MS, TimeUnit.MILLISECONDS);
    }
}
