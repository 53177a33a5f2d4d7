package mms_handler;

import io.netty.channel.EventLoopGroup;
import io.netty.channel.SelectStrategy;
import io.netty.channel.epoll.Epoll;
import io.netty.channel.epoll.EpollEventLoopGroup;
import io.netty.util.IntSupplier;
import io.netty.util.concurrent.FastThreadLocal;
import java.util.concurrent.TimeUnit;

/**
 * How an event loop waits for a worker that answers in microseconds: it looks again and again, for a
 * short time.  To sleep and to be woken up takes as long as such a worker.
 *
 * <p>Between two looks other threads get the processor, if they need it.
 */
final class Spin implements SelectStrategy {
    /** Batches that take longer are waited for asleep. */
    static final long LIMIT_NS = TimeUnit.MICROSECONDS.toNanos(150);

    static final boolean ON = Runtime.getRuntime().availableProcessors() > 1;

    private static final FastThreadLocal<Spin> OF_THREAD = new FastThreadLocal<>();

    /** When to sleep; 0: at once. */
    private long endNs;

    private Spin() {}

    /** Event loops that wait like this; null if the system has no epoll. */
    static EventLoopGroup newEventLoopGroup(int threads) {
        return ON && Epoll.isAvailable() ? new EpollEventLoopGroup(threads, () -> new Spin()) : null;
    }

    /** This thread's event loop gets a reply soon. */
    static void begin() {
        Spin spin = OF_THREAD.get();
        if (spin != null) {
            spin.endNs = System.nanoTime() + LIMIT_NS;
        }
    }

    /** The reply is here. */
    static void end() {
        Spin spin = OF_THREAD.get();
        if (spin != null) {
            spin.endNs = 0;
        }
    }

    @Override
    public int calculateStrategy(IntSupplier look, boolean hasTasks) throws Exception {
        if (OF_THREAD.get() != this) {
            OF_THREAD.set(this);
        }
        if (hasTasks) {
            return look.get();
        }
        while (endNs != 0) {
            int ready = look.get();
            if (ready > 0) {
                return ready;
            }
            if (System.nanoTime() - endNs > 0) {
                endNs = 0;
            }
            Thread.yield();
        }
        return SELECT;
    }
}
