package mms_handler;

import com.amazonaws.ml.mms.util.ConfigManager;
import io.netty.buffer.ByteBuf;
import io.netty.buffer.ByteBufUtil;
import io.netty.channel.ChannelHandlerContext;
import io.netty.handler.codec.ByteToMessageDecoder;
import io.netty.handler.codec.http.HttpResponseStatus;
import io.netty.util.AsciiString;
import java.io.IOException;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Objects;
import java.util.concurrent.TimeUnit;
import java.util.function.IntFunction;

/**
 * The connection of one worker, which has at most one batch at a time.  Closing it is how the gate
 * ends a worker; its end is the worker's death.
 */
final class LaneWorker extends ByteToMessageDecoder {
    private static final int VERSION = 4;
    private static final int LENGTH_BYTES = 4;
    private static final int REPLIES_BYTES = 16;
    private static final int REQUEST_BYTES = 12;
    private static final int REPLY_BYTES = 12;
    private static final int HEAD_BYTES = 512;
    private static final int HELLO_BYTES = 12;

    /** The most bytes of a reply: of its body, its head and its record together. */
    private static final long MAX_REPLY_BYTES =
            ConfigManager.getInstance().getMaxResponseSize() + (1 << 20);

    private final IntFunction<Lane> lanes;
    private ChannelHandlerContext context;
    private Lane lane;
    int pid;

    // The lane is the lock of what follows.

    /** How many requests it takes at once, now. */
    int takes;

    /** How many requests it has been given. */
    long taken;

    /** The batch that it has; null where a request is answered. */
    private List<Call> batch = Collections.emptyList();

    private int unanswered;
    private int batchSize;
    private long sentNs;

    /** How long the batch before took. */
    private long lastNs = Long.MAX_VALUE;

    /** When it was answered. */
    private long answeredNs;
    private boolean leaving;

    /** @param lanes the lane for the workers of a listener, by its port; null if there is none */
    LaneWorker(IntFunction<Lane> lanes) {
        this.lanes = lanes;
        setCumulator(COMPOSITE_CUMULATOR); // a large reply is not copied while it arrives
    }

    @Override
    public void handlerAdded(ChannelHandlerContext newContext) {
        context = newContext;
    }

    // --- requests ---

    /** Send a batch: lengths, heads, bodies.  The caller holds the lock. */
    void send(List<Call> calls) {
        batch = calls;
        unanswered = calls.size();
        batchSize = calls.size();
        taken += calls.size();
        sentNs = System.nanoTime();
        count(calls);
        int count = calls.size();
        Text heads = new Text(count * HEAD_BYTES);
        ByteBuf start =
                context.alloc()
                        .directBuffer(2 * LENGTH_BYTES + count * (REQUEST_BYTES + HEAD_BYTES));
        start.writeIntLE(0).writeShortLE(count).writeShortLE(awakeMicros());
        long bodies = 0;
        for (Call call : calls) {
            int before = heads.length();
            call.writeHead(heads);
            start.writeIntLE(heads.length() - before).writeIntLE(call.bytes());
            start.writeShortLE(call.parts).writeShortLE(0);
            bodies += call.bytes();
        }
        heads.writeTo(start);
        start.setIntLE(0, (int) (start.writerIndex() - LENGTH_BYTES + bodies));
        context.write(start, context.voidPromise());
        calls.forEach(call -> context.write(call.takeBody(), context.voidPromise()));
        context.flush();
        if (lastNs < Spin.LIMIT_NS && context.executor().inEventLoop()) {
            Spin.begin();
        }
    }

    /**
     * How long the worker waits awake for its next batch: a short time while single requests follow
     * each other quickly.  Where several come together, other processes need the processor.
     */
    private int awakeMicros() {
        boolean quick = batchSize == 1 && sentNs - answeredNs < Spin.LIMIT_NS;
        return Spin.ON && quick ? (int) TimeUnit.NANOSECONDS.toMicros(Spin.LIMIT_NS) : 0;
    }

    private void count(List<Call> calls) {
        lane.counts.batches.add(calls.size(), 1);
        for (Call call : calls) {
            lane.counts.queue.add(TimeUnit.NANOSECONDS.toMicros(sentNs - call.sinceNs), 1);
        }
    }

    boolean isBusySince(long ns) {
        return unanswered > 0 && sentNs - ns < 0;
    }

    /** End the worker; returns its requests.  The caller holds the lock. */
    List<Call> giveUp() {
        close();
        List<Call> calls = new ArrayList<>(batch);
        calls.removeIf(Objects::isNull);
        report(calls);
        batch = Collections.emptyList();
        unanswered = 0;
        return calls;
    }

    /** Tell the access log what this worker did. */
    private void report(List<Call> calls) {
        if (AccessLog.ON) {
            AccessLog.Work work =
                    new AccessLog.Work(pid, batchSize, sentNs, System.nanoTime());
            calls.forEach(call -> call.worked(work));
        }
    }

    // --- replies ---

    @Override
    protected void decode(ChannelHandlerContext context, ByteBuf in, List<Object> out) {
        if (in.readableBytes() < LENGTH_BYTES) {
            return;
        }
        int length = in.getIntLE(in.readerIndex());
        if (length < LENGTH_BYTES || length > maxFrameBytes()) {
            fail("a frame of " + (length & 0xFFFFFFFFL) + " bytes", in);
        } else if (in.readableBytes() - LENGTH_BYTES >= length) {
            in.skipBytes(LENGTH_BYTES);
            ByteBuf frame = in.readSlice(length);
            try {
                if (lane == null) {
                    hello(frame);
                } else {
                    replies(frame);
                }
            } catch (IndexOutOfBoundsException e) {
                fail("a frame that ends too early", in);
            } catch (IllegalArgumentException e) {
                fail(e.getMessage(), in);
            }
        }
    }

    /** What can come: the greeting, or replies to the requests that this worker has. */
    private long maxFrameBytes() {
        return lane == null ? HELLO_BYTES : REPLIES_BYTES + unanswered * MAX_REPLY_BYTES;
    }

    /** Close the connection; the requests of this worker are answered when it is closed. */
    private void fail(String what, ByteBuf in) {
        Plugin.LOG.warn("process {} sent {}; its connection is closed", pid, what);
        in.skipBytes(in.readableBytes());
        context.close();
    }

    /** Version, limit, process, the port of the listener from which MMS forked it. */
    private void hello(ByteBuf frame) {
        int version = frame.readUnsignedShortLE();
        takes = frame.readUnsignedShortLE();
        pid = frame.readIntLE();
        Lane found = lanes.apply(frame.readIntLE());
        if (version != VERSION || found == null || takes == 0) {
            String what = "version " + version + " of the protocol, for ";
            throw new IllegalArgumentException(
                    what + (found == null ? "no model" : takes + " requests"));
        }
        lane = found;
        lane.join(this);
    }

    /** Count, limit, times; for each reply: its index in the batch, status, lengths; heads; bodies. */
    private void replies(ByteBuf frame) {
        int count = frame.readUnsignedShortLE();
        int nowTakes = frame.readUnsignedShortLE();
        long[] micros = new long[lane.counts.phases.length];
        for (int i = 0; i < micros.length; i++) {
            micros[i] = frame.readUnsignedIntLE();
        }
        List<Reply> replies = new ArrayList<>(count);
        int head = frame.readerIndex() + count * REPLY_BYTES;
        int body = head;
        long end = head;
        for (int at = frame.readerIndex(); at < head; at += REPLY_BYTES) {
            body += frame.getIntLE(at + 4);
            end += frame.getUnsignedIntLE(at + 4) + frame.getUnsignedIntLE(at + 8);
        }
        if (end != frame.writerIndex()) {
            throw new IllegalArgumentException("a frame whose lengths do not agree");
        }
        for (int i = 0; i < count; i++) {
            int at = frame.readerIndex() + i * REPLY_BYTES;
            int headBytes = frame.getIntLE(at + 4);
            int bodyBytes = frame.getIntLE(at + 8);
            replies.add(
                    new Reply(
                            frame.getUnsignedShortLE(at),
                            frame.getUnsignedShortLE(at + 2),
                            new AsciiString(ByteBufUtil.getBytes(frame, head, headBytes), false),
                            frame.slice(body, bodyBytes)));
            head += headBytes;
            body += bodyBytes;
        }
        List<Call> calls = answered(replies, nowTakes);
        for (int i = 0; i < micros.length && count > 0; i++) {
            lane.counts.phases[i].add(micros[i], count);
        }
        for (int i = 0; i < count; i++) {
            calls.get(i).answer(replies.get(i).response());
        }
    }

    /** The requests to which a frame has the replies; the next batch is sent at once. */
    private List<Call> answered(List<Reply> replies, int nowTakes) {
        List<Call> calls = new ArrayList<>(replies.size());
        synchronized (lane) {
            boolean last = unanswered == replies.size() && !replies.isEmpty();
            if (last ? nowTakes == 0 && !leaving : nowTakes > 0) {
                throw new IllegalArgumentException("that it takes " + nowTakes + " requests");
            }
            for (Reply reply : replies) {
                Call call = batch.get(reply.index);
                if (call == null || calls.contains(call)) {
                    throw new IllegalArgumentException("two replies to one request");
                }
                if (reply.status < 200 || reply.status > 599) {
                    throw new IllegalArgumentException("the status " + reply.status);
                }
                calls.add(call);
            }
            replies.forEach(reply -> batch.set(reply.index, null));
            report(calls);
            unanswered -= replies.size();
            if (unanswered == 0 && last) {
                answeredNs = System.nanoTime();
                lastNs = answeredNs - sentNs;
                lane.counts.busyNs.add(lastNs);
                Spin.end();
            }
            leaving |= replies.isEmpty();
            if (unanswered == 0 && leaving) {
                lane.leave(this);
                close();
            } else if (unanswered == 0) {
                takes = nowTakes;
                lane.becomesIdle(this);
            }
        }
        return calls;
    }

    // --- the end ---

    /** End the worker: it ends when its connection does, after replies that are being read. */
    void close() {
        context.executor().execute(context::close);
    }

    @Override
    protected void handlerRemoved0(ChannelHandlerContext context) {
        if (lane == null) {
            return;
        }
        List<Call> calls;
        synchronized (lane) {
            lane.leave(this);
            calls = giveUp();
        }
        calls.forEach(
                call -> call.fail(HttpResponseStatus.INTERNAL_SERVER_ERROR, "Worker died."));
    }

    @Override
    public void exceptionCaught(ChannelHandlerContext context, Throwable cause) {
        if (!(cause instanceof IOException)) {
            Plugin.LOG.error("the connection of process " + pid + " is closed", cause);
        }
        context.close();
    }
}
