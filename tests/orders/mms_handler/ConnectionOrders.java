package mms_handler;

import static mms_handler.Order.expect;

import io.netty.channel.ChannelDuplexHandler;
import io.netty.channel.ChannelHandlerContext;
import io.netty.channel.ChannelInboundHandlerAdapter;
import io.netty.channel.ChannelPromise;
import io.netty.channel.embedded.EmbeddedChannel;
import io.netty.handler.codec.http.DefaultFullHttpResponse;
import io.netty.handler.codec.http.DefaultHttpRequest;
import io.netty.handler.codec.http.HttpMethod;
import io.netty.handler.codec.http.HttpRequest;
import io.netty.handler.codec.http.HttpResponse;
import io.netty.handler.codec.http.HttpResponseStatus;
import io.netty.handler.codec.http.HttpUtil;
import io.netty.handler.codec.http.HttpVersion;
import io.netty.handler.codec.http.LastHttpContent;
import java.nio.channels.ClosedChannelException;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.List;
import java.util.SplittableRandom;

/**
 * Orders of what happens on one connection of the gate: requests that come in parts, answers, a
 * client that takes its time, limits, hanging up, and the drain.  The connection is the plug-in's.
 */
final class ConnectionOrders implements Order {
    private static final int EVENTS = 40;
    private static final int REQUESTS = 5;
    private static final String NUMBER = "number";
    private static final Limits[] LIMITS = {
        Limits.IDLE, Limits.HEAD, Limits.BODY, Limits.REPLY, Limits.CROWDED, Limits.STUCK
    };

    private final SplittableRandom random;
    private final StringBuilder trace;
    private final Connection connection = new Connection();
    private final Client client = new Client();
    private final Backend backend = new Backend();
    private final EmbeddedChannel channel;
    private int begun;
    private boolean partial;
    private boolean cutShort;
    private boolean hasEnded;

    ConnectionOrders(long seed, StringBuilder trace) {
        random = new SplittableRandom(seed);
        this.trace = trace;
        Connection.draining = false;
        Connection.holdRefusals = false;
        channel = new EmbeddedChannel(client, connection, backend);
    }

    @Override
    public void run() {
        for (int i = 0; i < EVENTS && channel.isOpen(); i++) {
            happen(random.nextInt(16));
            settle();
        }
        finish();
    }

    private void happen(int choice) {
        switch (choice) {
            case 0:
                hangUp();
                return;
            case 1:
                endInput();
                return;
            case 2:
                expire();
                return;
            case 3:
                drain();
                return;
            case 4:
            case 5:
            case 6:
                backend.answer();
                return;
            case 7:
            case 8:
            case 9:
                client.take();
                return;
            default:
                send();
        }
    }

    private void settle() {
        channel.runPendingTasks();
        channel.checkException();
        check();
    }

    // --- the client ---

    /** Send a head, or the end of a body. */
    private void send() {
        if (hasEnded) {
            return;
        }
        if (partial) {
            note("end of request " + (begun - 1));
            partial = false;
            channel.writeInbound(LastHttpContent.EMPTY_LAST_CONTENT);
        } else if (begun < REQUESTS) {
            note("head of request " + begun);
            connection.headBegins();
            HttpRequest request =
                    new DefaultHttpRequest(HttpVersion.HTTP_1_1, HttpMethod.POST, "/predictions/m");
            request.headers().set(NUMBER, begun);
            HttpUtil.setKeepAlive(request, random.nextInt(8) > 0);
            begun++;
            partial = true;
            channel.writeInbound(request);
        }
    }

    private void hangUp() {
        if (random.nextInt(4) == 0) {
            note("the client hangs up");
            cutShort = true;
            channel.close();
        }
    }

    private void endInput() {
        if (!partial && !hasEnded && random.nextInt(4) == 0) {
            note("the client ends its side");
            hasEnded = true;
            connection.inputEnds();
        }
    }

    /** What the server has sent, and the client not taken yet. */
    private final class Client extends ChannelDuplexHandler {
        private final Deque<HttpResponse> sent = new ArrayDeque<>();
        private final Deque<ChannelPromise> promises = new ArrayDeque<>();
        private final List<HttpResponse> taken = new ArrayList<>();

        @Override
        public void write(ChannelHandlerContext context, Object message, ChannelPromise promise) {
            note("sent " + ((HttpResponse) message).status());
            sent.add((HttpResponse) message);
            promises.add(promise);
        }

        void take() {
            if (!sent.isEmpty()) {
                HttpResponse response = sent.remove();
                note("taken " + response.status());
                taken.add(response);
                promises.remove().setSuccess();
            }
        }

        @Override
        public void close(ChannelHandlerContext context, ChannelPromise promise) {
            note("closed");
            sent.clear();
            while (!promises.isEmpty()) {
                promises.remove().setFailure(new ClosedChannelException());
            }
            context.close(promise);
        }

        List<HttpResponse> all() {
            List<HttpResponse> all = new ArrayList<>(taken);
            all.addAll(sent);
            return all;
        }
    }

    // --- the server ---

    /** MMS: answers a request once it is whole. */
    private final class Backend extends ChannelInboundHandlerAdapter {
        private ChannelHandlerContext context;
        private String coming;
        private String whole;

        @Override
        public void handlerAdded(ChannelHandlerContext newContext) {
            context = newContext;
        }

        @Override
        public void channelRead(ChannelHandlerContext context, Object message) {
            if (message instanceof HttpRequest) {
                expect(whole == null || connection.phase == Phase.CLOSING, "two requests at once");
                coming = ((HttpRequest) message).headers().get(NUMBER);
            } else {
                boolean answered = client.all().size() > Integer.parseInt(coming);
                expect(!answered, "request " + coming + " is carried out although it was refused");
                whole = coming;
                coming = null;
            }
        }

        void answer() {
            if (whole != null) {
                HttpResponse response =
                        new DefaultFullHttpResponse(HttpVersion.HTTP_1_1, HttpResponseStatus.OK);
                response.headers().set(NUMBER, whole);
                note("answer to request " + whole);
                whole = null;
                context.channel().writeAndFlush(response);
            }
        }
    }

    private void expire() {
        Limits limit = LIMITS[random.nextInt(LIMITS.length)];
        Phase phase = connection.phase;
        boolean suits =
                limit == Limits.CROWDED
                        ? phase == Phase.IDLE || phase == Phase.HEAD || phase == Phase.BODY
                        : phase.name().equals(limit.name())
                                || limit == Limits.STUCK && phase == Phase.CLOSING;
        if (suits) {
            note(limit + " is over");
            cutShort = true;
            connection.expire(limit, phase, connection.sinceNs);
        }
    }

    /** As Gate.drain, a step at a time. */
    private void drain() {
        if (!Connection.draining) {
            note("drain");
            Connection.draining = true;
        } else if (!Connection.holdRefusals) {
            note("hold refusals");
            Connection.holdRefusals = true;
        } else {
            note("too late");
            Connection.holdRefusals = false;
            connection.tooLate();
        }
    }

    // --- what must hold ---

    /** Each answer is to the next request, and nothing follows one that closes the connection. */
    private void check() {
        List<HttpResponse> all = client.all();
        boolean last = false;
        for (int i = 0; i < all.size(); i++) {
            HttpResponse response = all.get(i);
            String number = response.headers().get(NUMBER);
            expect(!last, "an answer after the last one");
            expect(
                    number == null || number.equals("" + i),
                    "the answer to request " + number + " is answer " + i);
            last = !HttpUtil.isKeepAlive(response);
        }
        boolean early = all.size() == begun + 1 && last; // it refuses what has not begun
        expect(all.size() <= begun || early, all.size() + " answers to " + begun + " requests");
    }

    private void finish() {
        note("the end");
        if (partial && channel.isOpen()) {
            send();
            settle();
        }
        for (int i = 0; i < 100; i++) {
            backend.answer();
            settle();
            client.take();
            settle();
        }
        if (Connection.holdRefusals) {
            drain();
            settle();
            client.take();
            settle();
        }
        expect(!connection.owes(), "it still owes an answer in phase " + connection.phase);
        if (channel.isOpen()) {
            expect(connection.phase == Phase.IDLE, "it is in phase " + connection.phase);
            int answers = client.taken.size();
            expect(answers == begun, answers + " answers to " + begun + " requests");
        }
        checkClosed();
        channel.close();
        channel.runPendingTasks();
        expect(Connection.IN_FLIGHT.get() == 0, Connection.IN_FLIGHT + " requests in flight");
        expect(Connection.OPEN.isEmpty(), "the connection is still counted");
    }

    /** The server closes after its last answer, or when the client has ended its side. */
    private void checkClosed() {
        List<HttpResponse> taken = client.taken;
        boolean last = !taken.isEmpty() && !HttpUtil.isKeepAlive(taken.get(taken.size() - 1));
        boolean complete = cutShort || last || taken.size() == begun;
        expect(complete, taken.size() + " answers to " + begun + " requests, and no last one");
    }

    private void note(String line) {
        if (trace != null) {
            trace.append(line).append('\n');
        }
    }
}
