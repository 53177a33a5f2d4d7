package mms_handler;

import com.amazonaws.ml.mms.util.ConfigManager;
import com.amazonaws.ml.mms.wlm.Model;
import com.amazonaws.ml.mms.wlm.WorkerThread;
import io.netty.handler.codec.http.HttpResponseStatus;
import io.netty.util.concurrent.EventExecutor;
import io.netty.util.internal.PlatformDependent;
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
final class Lane implements Staff {
    /** A batch has at most so many bytes of bodies, unless it is a single request. */
    private static final long MAX_BATCH_BYTES = 8 << 20;

    /** Bodies that wait take at most a part of the memory for buffers, those of all models. */
    private static final long MAX_WAITING_BYTES = PlatformDependent.maxDirectMemory() / 4;

    private static final AtomicLong WAITING_BYTES = new AtomicLong();

    final Model model;
    private final int capacity = ConfigManager.getInstance().getJobQueueSize();

    /** The batch size of the registration; MMS's queue has another one from now on. */
    private final int batchSize;

    private final ArrayDeque<Call> waiting = new ArrayDeque<>();

    /** Idle workers, most recently busy first; those that never served are last. */
    private final ArrayDeque<LaneWorker> idle = new ArrayDeque<>();

    private final Set<LaneWorker> workers = new HashSet<>();
    private final Set<LaneWorker> retired = new HashSet<>();
    private int retiring;

    /** The worker that shall end before its next request; null if none shall. */
    private LaneWorker leaving;

    private boolean handingOut;
    private boolean closed;

    Lane(Model model) {
        this.model = model;
        batchSize = Math.max(1, model.getBatchSize());
    }

    // --- requests ---

    /** Let a request wait for a worker. */
    void add(Call call) {
        String refusal = null;
        synchronized (this) {
            if (!hasRoom(call)) {
                handOut();
            }
            if (closed) {
                refusal = "The model is unregistered.";
            } else if (hasRoom(call)) {
                waiting.add(call);
                WAITING_BYTES.addAndGet(call.bytes());
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
        boolean fits = WAITING_BYTES.get() + call.bytes() <= MAX_WAITING_BYTES;
        return waiting.isEmpty() || waiting.size() < capacity && fits;
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
        if (retired.size() < retiring) {
            retired.add(worker);
        }
        if (retired.contains(worker)) {
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
        if (retired.remove(worker)) {
            retiring--;
        }
    }

    // --- workers that take no more requests ---

    @Override
    public synchronized boolean retire(int number) {
        retiring = Math.max(number, retired.size());
        while (retired.size() < retiring && !idle.isEmpty()) {
            retired.add(idle.removeLast());
        }
        return retired.size() < retiring;
    }

    @Override
    public synchronized void retireNoMore() {
        retiring = retired.size();
    }

    @Override
    public synchronized boolean isRetired(WorkerThread thread) {
        return retired.contains(process(thread));
    }

    @Override
    public synchronized Object process(WorkerThread thread) {
        return workers.stream()
                .filter(worker -> worker.pid == thread.getPid())
                .findFirst()
                .orElse(null);
    }

    @Override
    public synchronized long taken(Object worker) {
        return worker == null ? 0 : ((LaneWorker) worker).taken;
    }

    @Override
    public synchronized void letGo(Object worker) {
        leaving = retired.contains(worker) ? null : (LaneWorker) worker;
        if (leaving != null && idle.remove(leaving)) {
            end(leaving);
        }
    }

    private void end(LaneWorker worker) {
        leaving = null;
        worker.close();
    }

    @Override
    public synchronized boolean keep(Object worker) {
        boolean gone = leaving != worker;
        leaving = null;
        return gone;
    }
}
