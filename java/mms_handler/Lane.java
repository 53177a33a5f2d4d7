package mms_handler;

import com.amazonaws.ml.mms.wlm.Model;
import io.netty.handler.codec.http.HttpResponseStatus;
import io.netty.util.concurrent.EventExecutor;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;

/**
 * The requests of one model and its workers on the plane.  An idle worker gets all that waits, up to
 * its limit; the worker that was busy most recently comes first, because its caches are warm.
 *
 * <p>Any thread may call its methods.  It is the lock of its workers' state, too.
 */
final class Lane {
    /** A batch has at most so many bytes of bodies, unless it is a single request. */
    private static final long MAX_BATCH_BYTES = 8 << 20;

    private static final AtomicLong WAITING_BYTES = new AtomicLong();

    final Model model;
    final ModelCounts counts;

    /** How many requests may wait. */
    private final int capacity;

    /** How many bytes the bodies may have that wait, of all models. */
    private final long maxWaitingBytes;

    /** The batch size of the registration. */
    private final int batchSize;

    private final ArrayDeque<Call> waiting = new ArrayDeque<>();

    /** Idle workers, most recently busy first; those that never served are last. */
    private final ArrayDeque<LaneWorker> idle = new ArrayDeque<>();

    private final Set<LaneWorker> workers = new HashSet<>();

    /** The worker that shall end before its next request; null if none shall. */
    private LaneWorker leaving;

    private boolean handingOut;
    private boolean closed;

    Lane(Model model, int capacity, long maxWaitingBytes) {
        this.model = model;
        counts = RequestCounts.of(model.getModelName());
        this.capacity = capacity;
        this.maxWaitingBytes = maxWaitingBytes;
        batchSize = Math.max(1, model.getBatchSize());
    }

    // --- requests ---

    /** Let a request wait for a worker. */
    void add(Call call) {
        String refusal = null;
        synchronized (this) {
            if (!hasRoom(call)) {
                handOut();
                forgetUnwanted();
            }
            if (closed) {
                refusal = "The model is unregistered.";
            } else if (hasRoom(call)) {
                enqueue(call);
                handOutSoon(call.executor());
                return;
            }
        }
        if (refusal == null) {
            Limits.QUEUE.hit("for model " + model.getModelName());
            call.refuse(
                    "No worker is available to serve request for model: "
                            + model.getModelName()
                            + ". Consider increasing job queue size.");
        } else {
            call.fail(HttpResponseStatus.SERVICE_UNAVAILABLE, refusal);
        }
    }

    private boolean hasRoom(Call call) {
        boolean fits = WAITING_BYTES.get() + call.bytes() <= maxWaitingBytes;
        return waiting.isEmpty() || waiting.size() < capacity && fits;
    }

    /** Make room of requests whose clients have reset their connections. */
    private void forgetUnwanted() {
        for (int i = waiting.size(); i > 0; i--) {
            Call call = poll();
            if (call.isWanted()) {
                enqueue(call);
            } else {
                call.release();
            }
        }
    }

    private void enqueue(Call call) {
        waiting.add(call);
        WAITING_BYTES.addAndGet(call.bytes());
    }

    /** The request that has waited longest. */
    private Call poll() {
        Call call = waiting.poll();
        WAITING_BYTES.addAndGet(-call.bytes());
        return call;
    }

    /** Hand out what waits once the event loop has read all that it can read now. */
    private void handOutSoon(EventExecutor loop) {
        if (!handingOut && !idle.isEmpty()) {
            handingOut = true;
            loop.execute(this::handOut);
        }
    }

    private synchronized void handOut() {
        handingOut = false;
        while (!idle.isEmpty()) {
            List<Call> batch = batch(idle.peek().takes);
            if (batch.isEmpty()) {
                break;
            }
            idle.pop().send(batch);
        }
    }

    /** The next requests for one worker. */
    private List<Call> batch(int takes) {
        int most = Math.min(takes, batchSize);
        List<Call> batch = new ArrayList<>(Math.min(most, waiting.size()));
        long bytes = 0;
        while (batch.size() < most && !waiting.isEmpty()) {
            Call call = waiting.peek();
            bytes += call.bytes();
            if (!batch.isEmpty() && bytes > MAX_BATCH_BYTES) {
                break;
            }
            poll();
            if (call.isWanted()) {
                batch.add(call);
            } else {
                call.release();
            }
        }
        return batch;
    }

    /** Answer 504 to what takes too long, and end the workers that do. */
    void checkTimes() {
        long now = System.nanoTime();
        int seconds = model.getResponseTimeoutSeconds();
        long limitNs = TimeUnit.SECONDS.toNanos(seconds);
        List<Call> late = new ArrayList<>();
        List<Call> stuck = new ArrayList<>();
        synchronized (this) {
            while (!waiting.isEmpty() && now - waiting.peek().sinceNs > limitNs) {
                late.add(poll());
            }
            for (LaneWorker worker : workers) {
                if (worker.isBusySince(now - limitNs)) {
                    stuck.addAll(worker.giveUp());
                }
            }
        }
        late.forEach(call -> call.expire("no worker was free within " + seconds + " s"));
        stuck.forEach(
                call ->
                        call.expire(
                                "the model did not answer within "
                                        + seconds
                                        + " s, and its worker was ended"));
    }

    /** The model is unregistered: refuse what waits.  MMS ends its workers. */
    void close() {
        List<Call> refused = new ArrayList<>();
        synchronized (this) {
            closed = true;
            while (!waiting.isEmpty()) {
                refused.add(poll());
            }
        }
        refused.forEach(
                call ->
                        call.fail(
                                HttpResponseStatus.SERVICE_UNAVAILABLE,
                                "The model is unregistered."));
    }

    /** How many bytes the bodies have that wait, of all models. */
    static long waitingBytes() {
        return WAITING_BYTES.get();
    }

    /** How many requests wait for a worker. */
    synchronized int length() {
        return waiting.size();
    }

    // --- workers ---

    synchronized void join(LaneWorker worker) {
        workers.add(worker);
        becomesIdle(worker);
    }

    synchronized void becomesIdle(LaneWorker worker) {
        if (worker == leaving) {
            end(worker);
            return;
        }
        if (worker.taken > 0) {
            idle.addFirst(worker);
        } else {
            idle.addLast(worker);
        }
        handOut();
    }

    /** The worker is gone. */
    synchronized void leave(LaneWorker worker) {
        workers.remove(worker);
        idle.remove(worker);
    }

    // --- workers that are recycled ---

    /** The worker whose process this is; null if there is none. */
    synchronized LaneWorker worker(int pid) {
        return workers.stream().filter(worker -> worker.pid == pid).findFirst().orElse(null);
    }

    /** Let a worker end: now if it is idle, otherwise once it has answered its requests. */
    synchronized void letGo(LaneWorker worker) {
        leaving = worker;
        if (idle.remove(worker)) {
            end(worker);
        }
    }

    private void end(LaneWorker worker) {
        leaving = null;
        worker.close();
    }

    /** Let the worker that is to end stay if it has not gone yet; returns whether it has gone. */
    synchronized boolean keep() {
        boolean gone = leaving == null;
        leaving = null;
        return gone;
    }
}
