package mms_handler;

import com.amazonaws.ml.mms.ServerInitializer;
import com.amazonaws.ml.mms.util.ConfigManager;
import com.amazonaws.ml.mms.util.Connector;
import com.amazonaws.ml.mms.util.ConnectorType;
import io.netty.bootstrap.ServerBootstrap;
import io.netty.channel.AdaptiveRecvByteBufAllocator;
import io.netty.channel.Channel;
import io.netty.channel.ChannelHandler.Sharable;
import io.netty.channel.ChannelHandlerContext;
import io.netty.channel.ChannelInboundHandlerAdapter;
import io.netty.channel.ChannelOption;
import io.netty.channel.EventLoopGroup;
import io.netty.channel.ServerChannelRecvByteBufAllocator;
import io.netty.handler.codec.PrematureChannelClosureException;
import io.netty.handler.codec.http.HttpRequestDecoder;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.util.concurrent.TimeUnit;

/** The public port: MMS's own handlers behind a count of the requests in flight; and the drain. */
final class Gate {
    private static final int BACKLOG = 1024;
    private static final long POLL_MS = 10;

    /** How long refusals are held back before the port closes. */
    private static final long HOLD_MS = 100;

    /** A request that has begun to come may take so long to come whole. */
    private static final long HALF_NS = TimeUnit.SECONDS.toNanos(1);

    /** Requests that were on their way when the port closed arrive within this time. */
    private static final long QUIET_NS = TimeUnit.MILLISECONDS.toNanos(500);

    private static final String PRIVATE = System.getProperty("java.io.tmpdir") + "/gate";

    /** As netty's own, but up to 128 KB instead of 64: large bodies come in fewer parts. */
    private static final AdaptiveRecvByteBufAllocator RECEIVED =
            new AdaptiveRecvByteBufAllocator(64, 2048, 1 << 17);

    private static Channel listener;

    private Gate() {}

    /** Listen on the port; connections wait in the system's queue until {@link #accept}. */
    static void bind(String address) {
        int colon = address.lastIndexOf(':');
        String host = address.substring(0, colon);
        int port = Integer.parseInt(address.substring(colon + 1));
        try {
            EventLoopGroup loops = Spin.newEventLoopGroup(threads());
            if (loops == null) {
                loops = Connector.newEventLoopGroup(threads());
            }
            listener = bootstrap(loops).bind(new InetSocketAddress(host, port)).sync().channel();
            if (Plane.ON) {
                Plane.listen(loops);
                bindPrivate(loops);
            }
        } catch (Exception e) { // sync() throws bind()'s exception, declared or not
            String reason = String.valueOf(e.getMessage()).replaceFirst(".* failed: ", "");
            System.err.printf("port %d of %s cannot be used: %s%n", port, host, reason);
            Runtime.getRuntime().halt(1);
        }
        Runtime.getRuntime().addShutdownHook(new Thread(Gate::drain, "mms_handler-drain"));
    }

    /** One event loop for four processors: a single one carries more than they can compute. */
    private static int threads() {
        int set = ConfigManager.getInstance().getNettyThreads();
        return set > 0 ? set : Math.max(1, Runtime.getRuntime().availableProcessors() / 4);
    }

    static void accept() {
        if (listener != null) {
            listener.config().setAutoRead(true);
        }
    }

    /** As ModelServer.initializeServer, but closing a connection does not drop its answer. */
    private static ServerBootstrap bootstrap(EventLoopGroup loops) {
        return new ServerBootstrap()
                .group(Connector.newEventLoopGroup(1), loops)
                .channel(Connector.parse("http://localhost", false).getServerChannel())
                .option(ChannelOption.SO_BACKLOG, BACKLOG)
                .option(ChannelOption.AUTO_READ, false)
                .option(
                        ChannelOption.RCVBUF_ALLOCATOR,
                        new ServerChannelRecvByteBufAllocator().maxMessagesPerRead(BACKLOG))
                .handler(new Places())
                .childOption(ChannelOption.SO_KEEPALIVE, true)
                .childOption(ChannelOption.RCVBUF_ALLOCATOR, RECEIVED)
                .childOption(ChannelOption.ALLOW_HALF_CLOSURE, true)
                .childHandler(new Initializer());
    }

    /** Listen on a socket for the supervisor, which asks for models by MMS's names. */
    private static void bindPrivate(EventLoopGroup loops) throws InterruptedException {
        Connector socket = Connector.parse("unix:" + PRIVATE, false);
        new ServerBootstrap()
                .group(loops)
                .channel(socket.getServerChannel())
                .childHandler(
                        new ServerInitializer(null, ConnectorType.INFERENCE_CONNECTOR) {
                            @Override
                            public void initChannel(Channel channel) {
                                super.initChannel(channel);
                                channel.pipeline()
                                        .addBefore("handler", "dispatch", new Dispatch());
                            }
                        })
                .bind(socket.getSocketAddress())
                .sync();
    }

    private static final class Initializer extends ServerInitializer {
        private final Forward forward = new Forward();
        private final Forms forms = new Forms();
        private final Dispatch dispatch = new Dispatch();
        private final OpenInference openInference = new OpenInference();
        private final LostClients lostClients = new LostClients();

        Initializer() {
            super(null, ConnectorType.INFERENCE_CONNECTOR);
        }

        @Override
        public void initChannel(Channel channel) {
            super.initChannel(channel);
            Connection connection = new Connection();
            channel.pipeline().addFirst("framing", new Framing(connection));
            channel.pipeline().replace("http", "decoder", decoder());
            channel.pipeline().addAfter("decoder", "encoder", new Encoder(connection));
            channel.pipeline().addAfter("encoder", "connection", connection);
            channel.pipeline().addBefore("aggregator", "buffers", new ClientBuffers(connection));
            channel.pipeline().addBefore("handler", "lost clients", lostClients);
            channel.pipeline().addBefore("handler", "open inference", openInference);
            channel.pipeline().addBefore("handler", "router", new Router());
            if (Plugin.ADMIN_PORT != null) {
                channel.pipeline().addBefore("handler", "forward", forward);
            }
            channel.pipeline().addBefore("handler", "forms", forms);
            if (Plane.ON) {
                channel.pipeline().addBefore("handler", "dispatch", dispatch);
            }
        }
    }

    /** netty's own would divide bodies into parts of 8 KB. */
    private static HttpRequestDecoder decoder() {
        return new HttpRequestDecoder(Head.MAX_LINE, Head.MAX_FIELDS, Integer.MAX_VALUE);
    }

    /** Ignores clients that hang up.  MMS would log a traceback for each. */
    @Sharable
    private static final class LostClients extends ChannelInboundHandlerAdapter {
        @Override
        public void exceptionCaught(ChannelHandlerContext context, Throwable cause) {
            if (cause instanceof IOException || cause instanceof PrematureChannelClosureException) {
                context.close();
            } else {
                context.fireExceptionCaught(cause);
            }
        }
    }

    /**
     * Answer the requests in flight, refuse new ones, and return.
     *
     * <p>The port stays open until the last answer, because a client can read a refusal but not a
     * reset.  Closing the port resets the connections in the system's queue, so refusals are held
     * back while it closes: clients that retry wait for them instead of connecting at that moment.
     */
    private static void drain() {
        Connection.draining = true;
        await(0, TimeUnit.SECONDS.toNanos(Plugin.DRAIN_S));
        Connection.holdRefusals = true;
        sleep(HOLD_MS);
        listener.close().syncUninterruptibly();
        Connection.holdRefusals = false;
        Connection.OPEN.forEach(Connection::tooLate);
        await(QUIET_NS, 2 * QUIET_NS);
        AccessLog.flush();
        Capture.finish();
    }

    /**
     * Return when no whole request has been in flight for {@code quietNs}, or after {@code limitNs}.
     */
    private static void await(long quietNs, long limitNs) {
        long start = System.nanoTime();
        long busyAt = start;
        for (long now = start; now - start < limitNs; now = System.nanoTime()) {
            if (isBusy(now - start < HALF_NS)) {
                busyAt = now;
            } else if (now - busyAt >= quietNs) {
                return;
            }
            sleep(POLL_MS);
        }
    }

    /** @param alsoHalf whether requests that have not come whole count */
    private static boolean isBusy(boolean alsoHalf) {
        return Connection.OPEN.stream()
                .anyMatch(
                        connection ->
                                connection.owes()
                                        || alsoHalf && connection.phase == Phase.HEAD
                                        || alsoHalf && connection.phase == Phase.BODY);
    }

    private static void sleep(long ms) {
        try {
            Thread.sleep(ms);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }
}
