package mms_handler;

import io.netty.channel.ChannelDuplexHandler;
import io.netty.channel.ChannelHandlerContext;
import io.netty.channel.ChannelPromise;
import io.netty.handler.codec.http.HttpContent;
import io.netty.handler.codec.http.HttpExpectationFailedEvent;
import io.netty.handler.codec.http.HttpHeaderNames;
import io.netty.handler.codec.http.HttpHeaderValues;
import io.netty.handler.codec.http.HttpMethod;
import io.netty.handler.codec.http.HttpRequest;
import io.netty.handler.codec.http.HttpResponse;
import io.netty.handler.codec.http.HttpResponseStatus;
import io.netty.handler.codec.http.HttpUtil;
import io.netty.handler.codec.http.LastHttpContent;
import io.netty.util.ReferenceCountUtil;
import java.util.ArrayDeque;
import java.util.Collection;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;

/**
 * The requests of one connection, one after the other.  A request is in flight from its head until
 * it is read and answered; the next one waits.  A server that drains refuses new ones.
 */
final class Connection extends ChannelDuplexHandler {
    /** The open connections. */
    static final Collection<Connection> OPEN = ConcurrentHashMap.newKeySet();

    /** The requests in flight of all connections. */
    static final AtomicInteger IN_FLIGHT = new AtomicInteger();

    /** The event that refuses a request that was not answered in time. */
    static final Object TOO_LATE = new Object();

    static volatile boolean draining;

    /** Whether refusals wait for {@link #TOO_LATE}. */
    static volatile boolean holdRefusals;

    private static final int MAX_WAITING = 64;

    /** When a client should try again that gets 503. */
    private static final int RETRY_AFTER_S = 1;

    /** The status in the access log of a request whose client did not wait for the answer. */
    private static final int GONE = 499;

    /** How long a server that drains waits for a client to take its answer. */
    private static final long TAKEN_NS = TimeUnit.SECONDS.toNanos(10);

    /** Messages of the next requests, sent before the answer to this one. */
    private final ArrayDeque<Object> waiting = new ArrayDeque<>();

    volatile Phase phase = Phase.IDLE;

    /** When the phase began. */
    volatile long sinceNs = System.nanoTime();

    /** Whether a request was answered on it. */
    volatile boolean served;

    private ChannelHandlerContext context;
    private HttpRequest request;

    /** The request's, as the client sent it. */
    private String uri;

    /** The client's id for the request; null if it sent none. */
    private String requestId;

    private long startNs;

    /** What the access log has of the request; null if it has none. */
    private AccessLog.Entry entry;

    /** The copy of the request, if it is captured; null otherwise. */
    private Capture capture;

    /** Whose request it is, if that is counted; null otherwise. */
    private Clients.Client client;

    /** Whether it is a HEAD. */
    private boolean head;

    private boolean unread;
    private boolean unanswered;
    private boolean replying;
    private boolean refused;
    private boolean closing;
    private boolean headBegun;
    private boolean inputEnded;

    /** Whether its descriptor is needed: the client gets no time to read its answer. */
    boolean hurried;

    @Override
    public void handlerAdded(ChannelHandlerContext newContext) {
        context = newContext;
        OPEN.add(this);
        context.channel().closeFuture().addListener(closed -> OPEN.remove(this));
    }

    @Override
    public void channelRead(ChannelHandlerContext context, Object message) {
        if (waiting.isEmpty() && !mustWait(message)) {
            take(message);
        } else {
            waiting.add(message);
            readAhead();
        }
    }

    /** Read on, unless many messages wait, or a part of a body: the client keeps its rest. */
    private void readAhead() {
        Object last = waiting.peekLast();
        boolean part = last instanceof HttpContent && !(last instanceof LastHttpContent);
        context.channel().config().setAutoRead(waiting.size() < MAX_WAITING && !part);
    }

    private boolean mustWait(Object message) {
        if (message instanceof Malformed) {
            return inFlight() && !unread;
        }
        return inFlight() ? message instanceof HttpRequest : closing;
    }

    private boolean inFlight() {
        return unread || unanswered;
    }

    private void enter(Phase newPhase) {
        sinceNs = System.nanoTime();
        phase = newPhase;
    }

    private void take(Object message) {
        if (message instanceof Malformed) {
            Malformed error = (Malformed) message;
            Limits.MALFORMED.hit(error.getMessage());
            cut(HttpResponseStatus.valueOf(error.status), error.getMessage());
            return;
        }
        boolean last = message instanceof LastHttpContent;
        if (message instanceof HttpRequest) {
            begin((HttpRequest) message);
        }
        if (entry != null && message instanceof HttpContent) {
            entry.bytesIn += ((HttpContent) message).content().readableBytes();
            entry.readNs = System.nanoTime();
        }
        if (capture != null && message instanceof HttpContent) {
            capture.add(((HttpContent) message).content());
        }
        if (refused) {
            ReferenceCountUtil.release(message);
        } else {
            context.fireChannelRead(message);
        }
        if (last) {
            finishReading();
        }
    }

    /** The client has sent the beginning of a head. */
    void headBegins() {
        headBegun = true;
        if (phase == Phase.IDLE) {
            enter(Phase.HEAD);
        }
    }

    /** The client will send nothing more, and may still read. */
    void inputEnds() {
        if (inFlight() && !unread) {
            inputEnded = true;
        } else {
            shut();
        }
    }

    private void finishReading() {
        if (unread) {
            unread = false;
            if (phase == Phase.BODY && unanswered) {
                phase = Phase.ANSWER;
            }
            end();
        }
    }

    private void begin(HttpRequest newRequest) {
        IN_FLIGHT.incrementAndGet();
        request = newRequest;
        uri = request.uri();
        head = request.method().equals(HttpMethod.HEAD);
        requestId = RequestId.take(request);
        entry = AccessLog.ON ? new AccessLog.Entry() : null;
        enter(Phase.BODY);
        startNs = sinceNs;
        headBegun = false;
        unread = true;
        unanswered = true;
        if (draining) {
            refused = true;
            if (!holdRefusals) {
                refuse();
            }
            return;
        }
        String token = Clients.ON ? Access.client(request) : null; // the next line removes it
        HttpResponse reply = Access.refusal(request);
        if (Clients.ON && reply == null) {
            reply = admit(token);
        }
        Target target = Checks.isCommon(request) ? null : Target.of(request.uri());
        if (reply == null && target != null) {
            reply = Checks.reply(request, target);
            reply = reply == null ? Pages.reply(request) : reply;
        }
        refused = reply != null;
        if (Capture.ON && !refused) {
            capture = Capture.begin(request);
        }
        if (refused) {
            answerHead(reply);
        } else if (head && target.isEndpoint()) {
            // MMS has no HEAD for plug-ins.  The encoder still omits the body.
            request.setMethod(HttpMethod.GET);
        }
    }

    /** Count the request for its client; returns the refusal if it is one too many. */
    private HttpResponse admit(String token) {
        Clients.Decision decision =
                Clients.decide(request, context.channel().remoteAddress(), token);
        if (decision == null) {
            return null;
        }
        if (decision.limit == null) {
            client = decision.client;
            return null;
        }
        return Clients.refusal(decision);
    }

    /** The request is no longer under way. */
    private void leave() {
        if (client != null) {
            Clients.left(client);
            client = null;
        }
    }

    /** Answer before the body is read. */
    private void answerHead(HttpResponse reply) {
        if (HttpUtil.is100ContinueExpected(request)) {
            closing = true; // whether a body follows is unknown
            unread = false;
        }
        context.channel().writeAndFlush(reply);
    }

    private void refuse() {
        refused = true;
        context.channel().writeAndFlush(Checks.tryLater(RETRY_AFTER_S));
    }

    /** Answer what the client has not sent whole, and close: the rest will not be read. */
    private void cut(HttpResponseStatus status, String message) {
        closing = true;
        refused = true;
        if (inFlight()) {
            unread = false;
            if (unanswered) {
                context.channel().writeAndFlush(Checks.error(status, message));
            } else {
                end();
            }
        } else {
            HttpResponse error = Checks.error(status, message);
            error.headers().set(HttpHeaderNames.CONNECTION, HttpHeaderValues.CLOSE);
            logMalformed(status);
            context.writeAndFlush(error).addListener(done -> shut());
        }
    }

    /**
     * Close the connection because the client lets it wait for too long, or because its place is
     * needed.  A client that has begun a request gets an answer.
     *
     * @param whilePhase with {@code sinceSameNs}: the connection still waits for the same thing
     */
    void expire(Limits limit, Phase whilePhase, long sinceSameNs) {
        context.executor()
                .execute(
                        () -> {
                            if (phase == whilePhase && sinceNs == sinceSameNs) {
                                expire(limit);
                            }
                        });
    }

    private void expire(Limits limit) {
        limit.hit();
        boolean begun = phase == Phase.HEAD || phase == Phase.BODY;
        enter(Phase.CLOSING);
        hurried = limit == Limits.CROWDED || limit == Limits.STUCK;
        if (begun) {
            cut(limit.status, limit.message());
        } else {
            closing = true;
            unread = false;
            context.close();
        }
    }

    /** Whether the request that is being answered is a HEAD. */
    boolean answersHead() {
        return unanswered && head;
    }

    /** Whether the server still has to answer a request, or to send its answer. */
    boolean owes() {
        boolean taken = System.nanoTime() - sinceNs < TAKEN_NS;
        return phase == Phase.ANSWER || phase == Phase.REPLY && taken;
    }

    /** Refuse the request that was not answered in time. */
    void tooLate() {
        context.executor().execute(() -> context.pipeline().fireUserEventTriggered(TOO_LATE));
    }

    @Override
    public void userEventTriggered(ChannelHandlerContext context, Object event) {
        if (event == TOO_LATE && unanswered) {
            refuse();
        } else if (event instanceof HttpExpectationFailedEvent) {
            closing = true; // the client may send its body or not: the next bytes have two meanings
            finishReading();
        }
        context.fireUserEventTriggered(event);
    }

    @Override
    public void write(ChannelHandlerContext context, Object message, ChannelPromise promise) {
        if (Checks.isFinal(message)) {
            if (!unanswered || replying) {
                // The request was refused meanwhile.  At the end of the promise MMS would close.
                ReferenceCountUtil.release(message);
                return;
            }
            replying = true;
            HttpResponse response = OpenInference.inForm(uri, (HttpResponse) message);
            prepare(response);
            if (phase != Phase.CLOSING) {
                enter(Phase.REPLY);
            }
            promise.addListener(done -> answered(done.isSuccess()));
            context.write(response, promise);
            return;
        }
        context.write(message, promise);
    }

    /**
     * Close the connection after this response if needed: MMS keeps it open even if the client asks
     * to close it.  Count the response if MMS does not log it: it logs only requests that it got
     * whole, and gives each of these an id.
     */
    private void prepare(HttpResponse response) {
        closing |= draining || !HttpUtil.isKeepAlive(request) || !HttpUtil.isKeepAlive(response);
        if (closing) {
            response.headers().set(HttpHeaderNames.CONNECTION, "close");
        }
        if (Checks.isUnavailable(response)) {
            response.headers().set(HttpHeaderNames.RETRY_AFTER, RETRY_AFTER_S);
        }
        boolean counted = response.headers().contains(RequestId.HEADER);
        if (!counted) {
            long millis = TimeUnit.NANOSECONDS.toMillis(System.nanoTime() - startNs);
            int status = response.status().code();
            RequestCounts.countUnlogged(request.method().name(), request.uri(), status, millis);
        }
        if (requestId != null) {
            response.headers().set(RequestId.HEADER, requestId);
        } else if (!counted) {
            response.headers().set(RequestId.HEADER, RequestId.next());
        }
        describe(response);
        if (capture != null) {
            capture.end(response, System.nanoTime() - startNs);
            capture = null;
        }
    }

    // --- the access log ---

    /** Take note of what a worker did for the request; any thread may, before it answers. */
    void worked(AccessLog.Work work) {
        AccessLog.Entry current = entry;
        if (current != null) {
            current.work = work;
        }
    }

    private void logMalformed(HttpResponseStatus status) {
        if (AccessLog.ON) {
            AccessLog.Entry malformed = new AccessLog.Entry();
            malformed.status = status.code();
            AccessLog.add(malformed);
        }
    }

    private void describe(HttpResponse response) {
        if (entry != null) {
            entry.status = response.status().code();
            entry.version = response.headers().get("X-Model-Version");
            entry.requestId = response.headers().get(RequestId.HEADER);
            if (response instanceof HttpContent) {
                entry.bytesOut = ((HttpContent) response).content().readableBytes();
            }
        }
    }

    /** Log the request that has been answered, or whose client is gone. */
    private void log() {
        if (entry != null) {
            entry.method = request.method().name();
            entry.uri = request.uri();
            entry.traceparent = request.headers().get("traceparent");
            entry.totalNs = System.nanoTime() - startNs;
            AccessLog.add(entry);
            entry = null;
        }
    }

    private void answered(boolean written) {
        closing |= !written;
        replying = false;
        if (unanswered) {
            unanswered = false;
            if (!written && entry != null) {
                entry.status = GONE;
            }
            log();
            leave();
            served = true;
            if (phase != Phase.CLOSING) {
                enter(unread ? Phase.BODY : headBegun ? Phase.HEAD : Phase.IDLE);
            }
            end();
        }
    }

    /** Do not close while the client still sends: a reset would destroy the answer, too. */
    @Override
    public void close(ChannelHandlerContext context, ChannelPromise promise) {
        closing = true;
        if (unanswered || !unread) {
            enter(Phase.CLOSING);
            context.close(promise);
        }
    }

    private void end() {
        if (inFlight()) {
            return;
        }
        IN_FLIGHT.decrementAndGet();
        if (closing || inputEnded && waiting.isEmpty()) {
            shut();
        } else if (!waiting.isEmpty()) {
            context.executor().execute(this::resume);
        }
    }

    private void shut() {
        enter(Phase.CLOSING);
        context.close();
    }

    private void resume() {
        while (!waiting.isEmpty() && !mustWait(waiting.peek())) {
            take(waiting.remove());
        }
        readAhead();
    }

    @Override
    public void channelInactive(ChannelHandlerContext context) {
        phase = Phase.CLOSING;
        leave();
        if (capture != null) {
            capture.release();
            capture = null;
        }
        if (inFlight()) {
            if (unanswered && entry != null) {
                entry.status = GONE;
                entry.requestId = requestId;
                log();
            }
            unread = false;
            unanswered = false;
            IN_FLIGHT.decrementAndGet();
        }
        waiting.forEach(ReferenceCountUtil::release);
        waiting.clear();
        context.fireChannelInactive();
    }

    @Override
    public void exceptionCaught(ChannelHandlerContext context, Throwable cause) {
        finishReading();
        context.fireExceptionCaught(cause);
    }
}
