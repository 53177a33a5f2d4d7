package mms_handler;

import io.netty.channel.ChannelDuplexHandler;
import io.netty.channel.ChannelHandlerContext;
import io.netty.channel.ChannelPromise;
import io.netty.handler.codec.http.DefaultFullHttpResponse;
import io.netty.handler.codec.http.HttpExpectationFailedEvent;
import io.netty.handler.codec.http.HttpHeaderNames;
import io.netty.handler.codec.http.HttpMethod;
import io.netty.handler.codec.http.HttpRequest;
import io.netty.handler.codec.http.HttpResponse;
import io.netty.handler.codec.http.HttpResponseStatus;
import io.netty.handler.codec.http.HttpStatusClass;
import io.netty.handler.codec.http.HttpUtil;
import io.netty.handler.codec.http.HttpVersion;
import io.netty.handler.codec.http.LastHttpContent;
import io.netty.util.ReferenceCountUtil;
import java.util.ArrayDeque;
import java.util.Queue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;

/**
 * The requests of one connection, one after the other.  A request is in flight from its first line
 * until it is read and answered; the next one waits.  A server that drains refuses new ones.
 */
final class Connection extends ChannelDuplexHandler {
    /** The requests in flight of all connections. */
    static final AtomicInteger IN_FLIGHT = new AtomicInteger();

    /** The event that refuses a request that was not answered in time. */
    static final Object TOO_LATE = new Object();

    static volatile boolean draining;

    /** Whether refusals wait for {@link #TOO_LATE}. */
    static volatile boolean holdRefusals;

    private static final int MAX_WAITING = 64;

    /** Messages of the next requests, sent before the answer to this one. */
    private final Queue<Object> waiting = new ArrayDeque<>();

    private HttpRequest request;
    private Batches batches;
    private long startNs;
    private boolean unread;
    private boolean unanswered;
    private boolean refused;
    private boolean closing;

    @Override
    public void channelRead(ChannelHandlerContext context, Object message) {
        if (waiting.isEmpty() && !mustWait(message)) {
            take(context, message);
        } else {
            waiting.add(message);
            context.channel().config().setAutoRead(waiting.size() < MAX_WAITING);
        }
    }

    private boolean mustWait(Object message) {
        return inFlight() ? message instanceof HttpRequest : closing;
    }

    private boolean inFlight() {
        return unread || unanswered;
    }

    private void take(ChannelHandlerContext context, Object message) {
        boolean last = message instanceof LastHttpContent;
        if (message instanceof HttpRequest) {
            begin(context, (HttpRequest) message);
        }
        if (refused) {
            ReferenceCountUtil.release(message);
        } else {
            context.fireChannelRead(message);
        }
        if (last) {
            finishReading(context);
        }
    }

    private void finishReading(ChannelHandlerContext context) {
        if (unread) {
            unread = false;
            end(context);
        }
    }

    private void begin(ChannelHandlerContext context, HttpRequest newRequest) {
        IN_FLIGHT.incrementAndGet();
        request = newRequest;
        batches = Batches.of(request.uri());
        if (batches != null) {
            batches.begin();
        }
        startNs = System.nanoTime();
        unread = true;
        unanswered = true;
        refused = draining;
        if (refused && !holdRefusals) {
            refuse(context);
        } else if (request.method().equals(HttpMethod.HEAD)
                && new Target(request.uri()).isEndpoint()) {
            // MMS has no HEAD for plug-ins.  The codec still omits the body.
            request.setMethod(HttpMethod.GET);
        }
    }

    private static void refuse(ChannelHandlerContext context) {
        HttpResponse refusal =
                new DefaultFullHttpResponse(
                        HttpVersion.HTTP_1_1, HttpResponseStatus.SERVICE_UNAVAILABLE);
        HttpUtil.setContentLength(refusal, 0);
        context.channel().writeAndFlush(refusal);
    }

    @Override
    public void userEventTriggered(ChannelHandlerContext context, Object event) {
        if (event == TOO_LATE && unanswered) {
            refuse(context);
        } else if (event instanceof HttpExpectationFailedEvent) {
            finishReading(context); // the client will not send its body
        }
        context.fireUserEventTriggered(event);
    }

    @Override
    public void write(ChannelHandlerContext context, Object message, ChannelPromise promise) {
        if (unanswered && message instanceof HttpResponse && !isInterim((HttpResponse) message)) {
            prepare((HttpResponse) message);
            promise.addListener(done -> answered(context, done.isSuccess()));
        }
        context.write(message, promise);
    }

    private static boolean isInterim(HttpResponse response) {
        return response.status().codeClass() == HttpStatusClass.INFORMATIONAL;
    }

    /**
     * Close the connection after this response if needed: MMS keeps it open even if the client asks
     * to close it.  Count the response if MMS does not log it: it logs only requests that it got
     * whole, and gives each of these an id.
     */
    private void prepare(HttpResponse response) {
        closing = draining || !HttpUtil.isKeepAlive(request) || !HttpUtil.isKeepAlive(response);
        if (closing) {
            response.headers().set(HttpHeaderNames.CONNECTION, "close");
        }
        if (!response.headers().contains("x-request-id")) {
            long millis = TimeUnit.NANOSECONDS.toMillis(System.nanoTime() - startNs);
            int status = response.status().code();
            RequestCounts.count(request.method().name(), request.uri(), status, millis);
        }
    }

    private void answered(ChannelHandlerContext context, boolean written) {
        closing |= !written;
        if (unanswered) {
            unanswered = false;
            if (batches != null) {
                batches.answered(System.nanoTime() - startNs);
            }
            end(context);
        }
    }

    /** Do not close while the client still sends: a reset would destroy the answer, too. */
    @Override
    public void close(ChannelHandlerContext context, ChannelPromise promise) {
        closing = true;
        if (unanswered || !unread) {
            context.close(promise);
        }
    }

    private void end(ChannelHandlerContext context) {
        if (inFlight()) {
            return;
        }
        leave();
        if (closing) {
            context.close();
        } else if (!waiting.isEmpty()) {
            context.executor().execute(() -> resume(context));
        }
    }

    private void leave() {
        IN_FLIGHT.decrementAndGet();
        if (batches != null) {
            batches.end();
        }
    }

    private void resume(ChannelHandlerContext context) {
        while (!waiting.isEmpty() && !mustWait(waiting.peek())) {
            take(context, waiting.remove());
        }
        context.channel().config().setAutoRead(waiting.size() < MAX_WAITING);
    }

    @Override
    public void channelInactive(ChannelHandlerContext context) {
        if (inFlight()) {
            unread = false;
            unanswered = false;
            leave();
        }
        waiting.forEach(ReferenceCountUtil::release);
        waiting.clear();
        context.fireChannelInactive();
    }

    @Override
    public void exceptionCaught(ChannelHandlerContext context, Throwable cause) {
        finishReading(context);
        context.fireExceptionCaught(cause);
    }
}
