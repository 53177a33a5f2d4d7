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
 * One connection's requests, one after the other.  A request is in flight from its first line until
 * it is read and answered; the next waits for that.  While draining, new ones are refused.
 */
final class Flight extends ChannelDuplexHandler {
    static final AtomicInteger IN_FLIGHT = new AtomicInteger();

    /** The event that ends the wait for an answer. */
    static final Object TOO_LATE = new Object();

    static volatile boolean draining;

    /** Whether refusals wait for {@link #TOO_LATE}. */
    static volatile boolean holding;

    private static final int MOST_WAITING = 64;

    /** What a client that does not wait for answers has sent already. */
    private final Queue<Object> waiting = new ArrayDeque<>();

    private HttpRequest request;
    private Batches batches;
    private long since;
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
            context.channel().config().setAutoRead(waiting.size() < MOST_WAITING);
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
            awaitNoMore(context);
        }
    }

    private void awaitNoMore(ChannelHandlerContext context) {
        if (unread) {
            unread = false;
            end(context);
        }
    }

    private void begin(ChannelHandlerContext context, HttpRequest begun) {
        IN_FLIGHT.incrementAndGet();
        request = begun;
        batches = Batches.of(begun.uri());
        if (batches != null) {
            batches.begin();
        }
        since = System.nanoTime();
        unread = true;
        unanswered = true;
        refused = draining;
        if (refused && !holding) {
            refuse(context);
        } else if (begun.method().equals(HttpMethod.HEAD) && new Target(begun.uri()).isEndpoint()) {
            begun.setMethod(HttpMethod.GET); // MMS has no HEAD for plugins; the codec knows better
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
            awaitNoMore(context); // the client was told not to send its body
        }
        context.fireUserEventTriggered(event);
    }

    @Override
    public void write(ChannelHandlerContext context, Object message, ChannelPromise promise) {
        if (unanswered && message instanceof HttpResponse && !interim((HttpResponse) message)) {
            prepare((HttpResponse) message);
            promise.addListener(done -> answered(context, done.isSuccess()));
        }
        context.write(message, promise);
    }

    private static boolean interim(HttpResponse response) {
        return response.status().codeClass() == HttpStatusClass.INFORMATIONAL;
    }

    /** MMS keeps a connection open whatever was asked, and logs only what it was given whole. */
    private void prepare(HttpResponse response) {
        closing = draining || !HttpUtil.isKeepAlive(request) || !HttpUtil.isKeepAlive(response);
        if (closing) {
            response.headers().set(HttpHeaderNames.CONNECTION, "close");
        }
        if (!response.headers().contains("x-request-id")) {
            long took = TimeUnit.NANOSECONDS.toMillis(System.nanoTime() - since);
            int status = response.status().code();
            Requests.count(request.method().name(), request.uri(), status, took);
        }
    }

    private void answered(ChannelHandlerContext context, boolean written) {
        closing |= !written;
        if (unanswered) {
            unanswered = false;
            if (batches != null) {
                batches.answered(System.nanoTime() - since);
            }
            end(context);
        }
    }

    /** Closing while the client still sends would reset the connection, and the answer with it. */
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
        context.channel().config().setAutoRead(waiting.size() < MOST_WAITING);
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
        awaitNoMore(context);
        context.fireExceptionCaught(cause);
    }
}
