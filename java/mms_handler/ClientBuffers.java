package mms_handler;

import io.netty.channel.ChannelDuplexHandler;
import io.netty.channel.ChannelHandlerContext;
import io.netty.channel.ChannelPromise;
import io.netty.handler.codec.http.FullHttpRequest;
import io.netty.handler.codec.http.HttpContent;
import io.netty.handler.codec.http.HttpObjectAggregator;
import io.netty.handler.codec.http.HttpRequest;
import io.netty.handler.codec.http.HttpResponse;
import io.netty.handler.codec.http.HttpUtil;
import io.netty.handler.codec.http.LastHttpContent;
import io.netty.util.ReferenceCountUtil;
import io.netty.util.internal.PlatformDependent;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicLong;

/**
 * What Java's buffers hold for the client of a connection: a body that is not whole yet, or a reply
 * that the client has not taken.  All of these together take at most half of the memory for buffers.
 * Beyond that, the requests that have waited for their clients longest are cut: if new ones were
 * refused, clients that send halves, or read nothing, could keep the others out.
 */
final class ClientBuffers extends ChannelDuplexHandler {
    /** The other half is for whole requests, and for what workers send. */
    private static final long LIMIT = PlatformDependent.maxDirectMemory() / 2;

    /** Replies of up to so many bytes are not counted. */
    private static final int SMALL = 4096;

    private static final Set<ClientBuffers> ALL = ConcurrentHashMap.newKeySet();
    private static final AtomicLong TOTAL = new AtomicLong();

    private final Connection connection;
    private volatile long bytes;

    /** Whether the request was refused before it was whole: its rest is not kept. */
    private boolean refused;

    private boolean cut;
    private ChannelHandlerContext aggregator;

    ClientBuffers(Connection connection) {
        this.connection = connection;
    }

    @Override
    public void channelRead(ChannelHandlerContext context, Object message) {
        if (message instanceof HttpRequest) {
            refused = false;
        } else if (message instanceof LastHttpContent) {
            forget();
        } else if (!refused) {
            keep(((HttpContent) message).content().readableBytes());
        }
        if (cut) {
            ReferenceCountUtil.release(message);
        } else if (message instanceof FullHttpRequest) {
            aggregator(context).fireChannelRead(message);
        } else {
            context.fireChannelRead(message);
        }
    }

    /** Where the handler is that makes parts whole: what is whole passes it by. */
    private ChannelHandlerContext aggregator(ChannelHandlerContext context) {
        if (aggregator == null) {
            aggregator = context.pipeline().context(HttpObjectAggregator.class);
        }
        return aggregator;
    }

    private void keep(long more) {
        bytes += more; // no other thread writes it
        ALL.add(this);
        if (TOTAL.addAndGet(more) > LIMIT) {
            makeRoom();
        }
    }

    private void forget() {
        if (bytes > 0) {
            ALL.remove(this);
            TOTAL.addAndGet(-bytes);
            bytes = 0;
        }
    }

    /** Cut what has waited longest, a few more than needed. */
    private static synchronized void makeRoom() {
        long surplus = TOTAL.get() - LIMIT + LIMIT / 32;
        Candidate[] candidates =
                ALL.stream()
                        .map(buffers -> new Candidate(buffers.connection, buffers.bytes))
                        .sorted()
                        .toArray(Candidate[]::new);
        for (int i = 0; i < candidates.length && surplus > 0; i++) {
            surplus -= candidates[i].bytes;
            candidates[i].close(Limits.BUFFERS);
        }
    }

    @Override
    public void write(ChannelHandlerContext context, Object message, ChannelPromise promise) {
        if (Checks.isFinal(message)) {
            if (bytes > 0) {
                refuse(context, (HttpResponse) message);
            }
            if (message instanceof HttpContent) {
                keepReply(((HttpContent) message).content().readableBytes(), promise);
            }
        }
        context.write(message, promise);
    }

    /** An answer to a request that is not whole is a refusal. */
    private void refuse(ChannelHandlerContext context, HttpResponse refusal) {
        refused = true;
        forget();
        if (!HttpUtil.isKeepAlive(refusal)) {
            cut = true;
            context.pipeline().remove(HttpObjectAggregator.class); // releases what it has
        }
    }

    private void keepReply(int length, ChannelPromise promise) {
        if (length > SMALL) {
            keep(length);
            promise.addListener(taken -> forget());
        }
    }

    @Override
    public void channelInactive(ChannelHandlerContext context) {
        forget();
        context.fireChannelInactive();
    }
}
