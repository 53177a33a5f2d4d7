package mms_handler;

import static mms_handler.Order.expect;

import com.amazonaws.ml.mms.archive.Manifest;
import com.amazonaws.ml.mms.archive.ModelArchive;
import com.amazonaws.ml.mms.wlm.Model;
import io.netty.buffer.ByteBuf;
import io.netty.buffer.Unpooled;
import io.netty.channel.ChannelInboundHandlerAdapter;
import io.netty.channel.embedded.EmbeddedChannel;
import io.netty.handler.codec.http.DefaultFullHttpRequest;
import io.netty.handler.codec.http.FullHttpRequest;
import io.netty.handler.codec.http.FullHttpResponse;
import io.netty.handler.codec.http.HttpMethod;
import io.netty.handler.codec.http.HttpVersion;
import java.io.File;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.SplittableRandom;
import java.util.TreeMap;
import java.util.function.Predicate;

/**
 * Orders of what happens to the requests of one model: clients that ask and hang up, workers that
 * answer, die, say goodbye, send nonsense, are recycled or take too long, and the model's end. Each
 * connection has an event loop of its own, which runs what it was told when the order says so.
 */
final class LaneOrders implements Order {
    private static final int EVENTS = 80;
    private static final int REQUESTS = 10;
    private static final int WORKERS = 6;
    private static final int PORT = 9001;
    private static final int CAPACITY = 4;
    private static final int MAX_WAITING_BYTES = 40;
    private static final int BATCH_SIZE = 3;

    private final SplittableRandom random;
    private final StringBuilder trace;
    private final Model model = model();
    private final Lane lane;
    private final List<Request> requests = new ArrayList<>();
    private final List<Worker> workers = new ArrayList<>();

    /** The last request that a worker has got. */
    private int lastSent = -1;

    /** Those that workers have got since the last look. */
    private final List<Request> sent = new ArrayList<>();

    /** How often a worker has become idle. */
    private int turns;

    private Worker leaver;
    private boolean closed;

    LaneOrders(long seed, StringBuilder trace) {
        random = new SplittableRandom(seed);
        this.trace = trace;
        lane = new Lane(model, CAPACITY, MAX_WAITING_BYTES);
    }

    /** A model of MMS without files. */
    private static Model model() {
        Manifest manifest = new Manifest();
        Manifest.Model described = new Manifest.Model();
        described.setModelName("model");
        manifest.setModel(described);
        ModelArchive archive = new ModelArchive(manifest, "url", new File("/nonexistent"), false);
        Model model = new Model(archive, CAPACITY, "false");
        model.setBatchSize(BATCH_SIZE);
        model.setResponseTimeoutSeconds(60);
        return model;
    }

    // --- what happens ---

    @Override
    public void run() {
        for (int i = 0; i < EVENTS; i++) {
            happen(random.nextInt(24));
        }
        finish();
    }

    private void happen(int choice) {
        switch (choice) {
            case 0:
            case 1:
            case 2:
            case 3:
                ask();
                return;
            case 4:
            case 5:
                start();
                return;
            case 6:
            case 7:
            case 8:
            case 9:
                with(worker -> !worker.batch.isEmpty(), Worker::answer);
                return;
            case 10:
                with(worker -> random.nextInt(3) == 0, Worker::die);
                return;
            case 11:
                with(worker -> !worker.said && random.nextInt(3) == 0, Worker::leave);
                return;
            case 12:
                with(worker -> random.nextInt(3) == 0, Worker::sendNonsense);
                return;
            case 13:
                recycle();
                return;
            case 14:
                timeIsUp();
                return;
            case 15:
                hangUp();
                return;
            case 16:
                if (random.nextInt(16) == 0) {
                    close();
                }
                return;
            default:
                runTasks();
        }
    }

    private void with(Predicate<Worker> suits, java.util.function.Consumer<Worker> act) {
        List<Worker> found = new ArrayList<>(workers);
        found.removeIf(worker -> !worker.channel.isOpen() || !suits.test(worker));
        if (!found.isEmpty()) {
            act.accept(found.get(random.nextInt(found.size())));
            look();
        }
    }

    private void ask() {
        if (requests.size() < REQUESTS) {
            requests.add(new Request(requests.size()));
            look();
        }
    }

    private void start() {
        if (workers.size() < WORKERS && !closed) {
            workers.add(new Worker(workers.size()));
            look();
        }
    }

    /** Let one worker end between two requests, or see that the last one has. */
    private void recycle() {
        if (leaver == null) {
            with(
                    worker -> !worker.said && lane.worker(worker.pid()) != null,
                    worker -> {
                        note("recycle " + worker);
                        leaver = worker;
                        lane.letGo(lane.worker(worker.pid()));
                    });
        } else if (!leaver.channel.isOpen()) {
            lane.keep();
            leaver = null;
        }
    }

    private void timeIsUp() {
        if (random.nextInt(6) == 0) {
            note("the time is up");
            model.setResponseTimeoutSeconds(-1); // nanoTime may stand still
            requests.forEach(request -> request.late = true);
            lane.checkTimes();
            model.setResponseTimeoutSeconds(60);
            look();
        }
    }

    private void hangUp() {
        Request request = requests.isEmpty() ? null : requests.get(random.nextInt(requests.size()));
        if (request != null && request.client.isOpen() && random.nextInt(2) == 0) {
            note("the client of " + request + " hangs up");
            request.wasAnswered = request.answers() > 0;
            request.client.runPendingTasks(); // as close() does, before it closes
            look();
            request.client.close();
            look();
        }
    }

    private void close() {
        note("unregister");
        closed = true;
        lane.close();
        look();
    }

    private void runTasks() {
        List<EmbeddedChannel> all = channels();
        if (!all.isEmpty()) {
            all.get(random.nextInt(all.size())).runPendingTasks();
            look();
        }
    }

    private List<EmbeddedChannel> channels() {
        List<EmbeddedChannel> all = new ArrayList<>();
        workers.forEach(worker -> all.add(worker.channel));
        requests.forEach(request -> all.add(request.client));
        return all;
    }

    /** No more faults: what has begun comes to its end. */
    private void finish() {
        for (boolean moves = true; moves; ) {
            settle();
            moves = false;
            for (Worker worker : workers) {
                if (worker.channel.isOpen() && !worker.batch.isEmpty()) {
                    worker.answer();
                    look();
                    moves = true;
                }
            }
        }
        boolean serves = workers.stream().anyMatch(worker -> worker.channel.isOpen());
        if (!closed && !serves && lane.length() > 0) {
            workers.add(new Worker(workers.size()));
            finish();
            return;
        }
        settle();
        requests.forEach(Request::checkEnd);
        expect(lane.length() == 0, "a request is left");
        workers.forEach(worker -> worker.channel.finishAndReleaseAll());
        expect(Lane.waitingBytes() == 0, Lane.waitingBytes() + " bytes wait");
    }

    private void settle() {
        for (int i = 0; i < 3; i++) {
            channels().forEach(EmbeddedChannel::runPendingTasks);
            look();
        }
        expect(
                lane.length() == 0 || workers.stream().noneMatch(Worker::isIdle),
                lane.length() + " requests wait while a worker is idle");
    }

    // --- what must hold ---

    private void look() {
        workers.forEach(Worker::read);
        workers.forEach(Worker::checkTurn);
        sent.forEach(request -> lastSent = Math.max(lastSent, request.number));
        sent.clear();
        requests.forEach(Request::check);
        expect(lane.length() <= CAPACITY, lane.length() + " requests wait");
    }

    private void note(String line) {
        if (trace != null) {
            trace.append(line).append('\n');
        }
    }

    /** A client's request; its connection has no other one. */
    private final class Request {
        final int number;
        final EmbeddedChannel client = new EmbeddedChannel(new ChannelInboundHandlerAdapter());
        final ByteBuf body;

        /** The worker that has got it. */
        Worker worker;

        boolean late;
        boolean wasAnswered;

        Request(int number) {
            this.number = number;
            int padding = random.nextInt(20);
            String text = number + String.join("", Collections.nCopies(padding, " "));
            body = Unpooled.copiedBuffer(text, StandardCharsets.US_ASCII);
            note(this + " of " + text.length() + " bytes");
            FullHttpRequest request =
                    new DefaultFullHttpRequest(HttpVersion.HTTP_1_1, HttpMethod.POST, "/", body);
            lane.add(new Call(client.pipeline().firstContext(), lane.counts, request, body, 0));
        }

        int answers() {
            return client.outboundMessages().size();
        }

        private FullHttpResponse answer() {
            return (FullHttpResponse) client.outboundMessages().peek();
        }

        void check() {
            expect(answers() < 2, this + " has " + answers() + " answers");
            if (answers() == 1) {
                int status = answer().status().code();
                String text = answer().content().toString(StandardCharsets.US_ASCII);
                boolean own = status == 200 && worker != null && text.equals("answer " + number);
                boolean died = status == 500 && worker != null && worker.failed;
                boolean tooLate = status == 504 && late;
                boolean refused = status == 503 && worker == null;
                expect(own || died || tooLate || refused, this + " has the answer " + text);
            }
        }

        void checkEnd() {
            if (client.isOpen()) {
                expect(answers() == 1, this + " has no answer");
            }
            expect(body.refCnt() == 0, "the body of " + this + " is kept");
            client.releaseOutbound();
        }

        @Override
        public String toString() {
            return "request " + number;
        }
    }

    /** A worker's process, and its connection to the lane. */
    private final class Worker {
        private static final int VERSION = 4;

        final int number;
        final EmbeddedChannel channel;

        /** What came and is no whole frame. */
        private final ByteBuf received = Unpooled.buffer();

        /** Its requests by their places in the batch, those that are not answered. */
        final TreeMap<Integer, Request> batch = new TreeMap<>();

        int takes = 1 + random.nextInt(4);

        /** Whether it has said goodbye. */
        boolean said;

        /** Whether it has died, was ended, or has sent nonsense. */
        boolean failed;

        /** When it became idle. */
        int idleTurn;

        boolean served;

        /** Whether it has got requests since the last look. */
        private boolean got;

        Worker(int number) {
            this.number = number;
            channel = new EmbeddedChannel(new LaneWorker(port -> port == PORT ? lane : null));
            note(this + " takes " + takes);
            ByteBuf hello = Unpooled.buffer();
            hello.writeIntLE(12).writeShortLE(VERSION).writeShortLE(takes);
            channel.writeInbound(hello.writeIntLE(pid()).writeIntLE(PORT));
        }

        int pid() {
            return 100 + number;
        }

        boolean isIdle() {
            return channel.isOpen() && batch.isEmpty() && !said && this != leaver;
        }

        /** Take the requests that have come. */
        void read() {
            for (ByteBuf part; (part = channel.readOutbound()) != null; part.release()) {
                received.writeBytes(part);
            }
            while (received.readableBytes() >= 4
                    && received.readableBytes() - 4 >= received.getIntLE(received.readerIndex())) {
                received.skipBytes(4);
                take();
            }
            failed |= !channel.isOpen();
        }

        private void take() {
            int count = received.readUnsignedShortLE();
            received.skipBytes(2);
            expect(batch.isEmpty(), this + " gets a batch, and has one");
            expect(this != leaver, this + " gets a batch, and was to end");
            expect(count > 0 && count <= Math.min(takes, BATCH_SIZE), this + " gets " + count);
            got = true;
            int head = received.readerIndex() + count * 12;
            for (int i = 0; i < count; i++) {
                head += received.getIntLE(received.readerIndex() + i * 12);
            }
            int body = head;
            for (int i = 0; i < count; i++) {
                int bytes = received.getIntLE(received.readerIndex() + i * 12 + 4);
                String text = received.toString(body, bytes, StandardCharsets.US_ASCII).trim();
                add(i, requests.get(Integer.parseInt(text)));
                body += bytes;
            }
            received.readerIndex(body);
        }

        private void add(int place, Request request) {
            note(this + " gets " + request);
            expect(request.client.isOpen(), "nobody waits for " + request);
            expect(request.number > lastSent, request + " is overtaken");
            sent.add(request);
            request.worker = this;
            batch.put(place, request);
        }

        /** If it has got requests, no other worker was to get them: the one that was busy last is first. */
        void checkTurn() {
            if (!got) {
                return;
            }
            got = false;
            for (Worker other : workers) {
                boolean later = other.served && (!served || other.idleTurn > idleTurn);
                expect(
                        other == this || !other.isIdle() || !later,
                        this + " gets requests before " + other);
            }
        }

        /** Answer some of its requests, in any order, or all. */
        void answer() {
            List<Integer> places = new ArrayList<>(batch.keySet());
            while (places.size() > 1 && random.nextInt(3) == 0) {
                places.remove(random.nextInt(places.size()));
            }
            Collections.reverse(places);
            boolean all = places.size() == batch.size();
            ByteBuf heads = Unpooled.buffer();
            ByteBuf bodies = Unpooled.buffer();
            ByteBuf records = Unpooled.buffer();
            for (int place : places) {
                note(this + " answers " + batch.get(place));
                byte[] text =
                        ("answer " + batch.remove(place).number).getBytes(StandardCharsets.US_ASCII);
                records.writeShortLE(place).writeShortLE(200).writeIntLE(2).writeIntLE(text.length);
                heads.writeBytes(new byte[] {'O', 'K'});
                bodies.writeBytes(text);
            }
            if (all) {
                takes = 1 + random.nextInt(4);
                note(this + " takes " + takes);
                idleTurn = ++turns;
                served = true;
            }
            ByteBuf start = Unpooled.buffer();
            int length = 16 + records.readableBytes() + heads.readableBytes() + bodies.readableBytes();
            start(start, length, places.size(), all ? takes : 0);
            send(Unpooled.wrappedBuffer(start, records, heads, bodies));
        }

        /** The start of a frame of replies, with its times. */
        private ByteBuf start(ByteBuf frame, int length, int count, int takes) {
            frame.writeIntLE(length).writeShortLE(count).writeShortLE(takes);
            return frame.writeIntLE(20).writeIntLE(0).writeIntLE(-1);
        }

        /** Send a frame in two pieces. */
        private void send(ByteBuf frame) {
            ByteBuf first = frame.readRetainedSlice(random.nextInt(frame.readableBytes() + 1));
            channel.writeInbound(first);
            if (channel.isOpen()) {
                channel.writeInbound(frame);
            } else {
                frame.release();
            }
        }

        void die() {
            note(this + " dies");
            failed = true;
            channel.close();
        }

        /** MMS ends it: it answers what it has got. */
        void leave() {
            note(this + " says goodbye");
            said = true;
            send(start(Unpooled.buffer(), 16, 0, 0));
        }

        void sendNonsense() {
            note(this + " sends nonsense");
            failed = true;
            ByteBuf frame = Unpooled.buffer();
            switch (random.nextInt(5)) {
                case 0:
                    frame.writeIntLE(random.nextInt(4) - 2); // a length
                    break;
                case 1:
                    start(frame, 28, 1, takes); // a place
                    frame.writeShortLE(3).writeShortLE(200).writeIntLE(0).writeIntLE(0);
                    break;
                case 2:
                    start(frame, 16, 0, 1); // it takes one
                    break;
                case 3:
                    start(frame, 40, 2, takes); // twice the same place
                    frame.writeIntLE(200 << 16).writeLongLE(0).writeIntLE(200 << 16).writeLongLE(0);
                    break;
                default:
                    start(frame, 28, 1, takes); // too short a body
                    frame.writeShortLE(0).writeShortLE(200).writeIntLE(0).writeIntLE(1);
            }
            channel.writeInbound(frame);
            expect(!channel.isOpen(), this + " is still connected");
        }

        @Override
        public String toString() {
            return "worker " + number;
        }
    }
}
