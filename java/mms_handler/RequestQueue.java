package mms_handler;

import com.amazonaws.ml.mms.wlm.Job;
import com.amazonaws.ml.mms.wlm.Model;
import com.amazonaws.ml.mms.wlm.WorkerThread;
import io.netty.handler.codec.http.HttpResponseStatus;
import java.util.ArrayDeque;
import java.util.Deque;
import java.util.HashSet;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.BlockingDeque;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.LinkedBlockingDeque;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.LongAdder;
import java.util.concurrent.locks.ReentrantLock;

/**
 * The requests that wait for a worker of one model.  The idle worker that was busy most recently
 * gets the next one, because its caches are warm.  In MMS's own queue idle workers take turns.
 */
final class RequestQueue extends LinkedBlockingDeque<Job> implements Staff {
    private static final long serialVersionUID = 1L;

    private final transient Model model;

    /** MMS's own queue; requests that were on their way into it may still arrive. */
    private final transient BlockingDeque<Job> mmsQueue;

    /** Held by the worker that waits for the next batch. */
    private final ReentrantLock pollLock;

    /** The ids of the batch that is being collected, by the worker that holds the lock. */
    private transient Set<String> batchIds = new HashSet<>();

    /** Idle workers, most recently busy first; workers that never served wait at the end. */
    private final transient Deque<Turn> idle = new ArrayDeque<>();

    /** Threads of the workers that take no more requests, because MMS is about to end them. */
    private final transient Set<Thread> retired = new HashSet<>();

    /** How many of them there shall be. */
    private int retiring;

    /** The thread of a worker that shall end before its next request; null if none shall. */
    private transient Thread leaving;

    /** How many requests each worker's thread has taken; empty unless workers are recycled. */
    private final transient Map<Thread, LongAdder> taken = new ConcurrentHashMap<>();

    /** Whether this worker has had a request.  One that failed to load its model polls, too. */
    private final transient ThreadLocal<Boolean> served = ThreadLocal.withInitial(() -> false);

    private RequestQueue(Model model, BlockingDeque<Job> mmsQueue, ReentrantLock pollLock) {
        super(mmsQueue.size() + mmsQueue.remainingCapacity());
        this.model = model;
        this.mmsQueue = mmsQueue;
        this.pollLock = pollLock;
        catchUp();
    }

    /** Replace MMS's own queue, unless a worker already waits in it. */
    static void adopt(Model model) {
        MmsInternals.replaceQueue(model, (queue, lock) -> new RequestQueue(model, queue, lock));
    }

    /** Take over the requests that still arrived in MMS's own queue. */
    static void catchUp(Model model) {
        BlockingDeque<Job> queue = MmsInternals.queue(model);
        if (queue instanceof RequestQueue) {
            ((RequestQueue) queue).catchUp();
        }
    }

    private void catchUp() {
        for (Job job = mmsQueue.poll(); job != null; job = mmsQueue.poll()) {
            if (!offer(job)) {
                job.sendError(HttpResponseStatus.SERVICE_UNAVAILABLE, "The queue is full.");
            }
        }
    }

    /** Answer 503 to what waits for an unregistered model; MMS would never answer it. */
    static void refuse(Model model) {
        catchUp(model);
        BlockingDeque<Job> queue = MmsInternals.queue(model);
        for (Job job = queue.poll(); job != null; job = queue.poll()) {
            job.sendError(HttpResponseStatus.SERVICE_UNAVAILABLE, "The model is unregistered.");
        }
    }

    @Override
    public boolean offerLast(Job job) {
        synchronized (idle) {
            if (super.offerLast(job)) {
                return wake();
            }
        }
        Limits.QUEUE.hit("for model " + job.getModelName());
        return false;
    }

    @Override
    public boolean offerFirst(Job job) {
        synchronized (idle) {
            return super.offerFirst(job) && wake();
        }
    }

    /** Wake an idle worker.  If there is none, the next one to become idle looks here first. */
    private boolean wake() {
        Turn turn = idle.poll();
        if (turn != null) {
            turn.release();
        }
        return true;
    }

    /** MMS waits without a limit for the first request of a batch, and with one for the others. */
    @Override
    public Job poll(long timeout, TimeUnit unit) throws InterruptedException {
        boolean first = timeout == Long.MAX_VALUE;
        Job job = first ? pollFirstOfBatch() : pollNextOfBatch(timeout, unit);
        if (job == null) {
            return null;
        }
        LimitedJob limited = LimitedJob.of(job, model);
        if (first) {
            batchIds = new HashSet<>();
        }
        if (!batchIds.add(limited.getJobId())) {
            putBack(limited);
            return null;
        }
        limited.setBatch(batchIds);
        if (Recycling.ON) {
            taken.computeIfAbsent(Thread.currentThread(), thread -> new LongAdder()).increment();
        }
        return limited;
    }

    /** A batch has each id once: MMS would lose the first of two requests with the same one. */
    private void putBack(Job job) {
        if (!offerFirst(job)) {
            job.sendError(HttpResponseStatus.SERVICE_UNAVAILABLE, "The queue is full.");
        }
    }

    /**
     * If its worker ends meanwhile, the batch is complete.  MMS would forget the requests that it
     * already has, because it has not made them a BaseModelRequest yet (WorkerThread.run).
     */
    private Job pollNextOfBatch(long timeout, TimeUnit unit) {
        try {
            return super.poll(timeout, unit);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt(); // MMS sends nothing, and answers 500 for all
            return null;
        }
    }

    private Job pollFirstOfBatch() throws InterruptedException {
        for (; ; ) {
            Turn turn = new Turn();
            synchronized (idle) {
                if (leaving == turn.worker) {
                    end();
                }
                Job job = retires(turn) ? null : poll();
                if (job != null) {
                    served.set(true);
                    return job;
                }
                if (retired.contains(turn.worker)) {
                    passOn();
                } else if (served.get()) {
                    idle.addFirst(turn);
                } else {
                    idle.addLast(turn);
                }
            }
            pollLock.unlock();
            try {
                turn.acquire();
                pollLock.lockInterruptibly();
            } catch (InterruptedException e) {
                served.set(false); // its worker has ended
                leave(turn);
                throw e;
            }
        }
    }

    /** Stop waiting.  If this worker was woken already, wake another one. */
    private void leave(Turn turn) {
        synchronized (idle) {
            if (retired.remove(turn.worker)) {
                retiring--;
            } else if (!idle.remove(turn)) {
                wake();
            }
        }
    }

    // --- workers that leave ---

    @Override
    public boolean retire(int workers) {
        synchronized (idle) {
            retiring = Math.max(workers, retired.size());
            while (retired.size() < retiring && !idle.isEmpty()) {
                retired.add(idle.removeLast().worker);
            }
            return retired.size() < retiring;
        }
    }

    @Override
    public void retireNoMore() {
        synchronized (idle) {
            retiring = retired.size();
        }
    }

    @Override
    public boolean isRetired(WorkerThread worker) {
        synchronized (idle) {
            return retired.contains(MmsInternals.thread(worker));
        }
    }

    private boolean retires(Turn turn) {
        return retired.size() < retiring && retired.add(turn.worker);
    }

    /** A worker that was woken for a request has retired instead: wake another one. */
    private void passOn() {
        if (!isEmpty()) {
            wake();
        }
    }

    // --- workers that are recycled ---

    @Override
    public Object process(WorkerThread worker) {
        return MmsInternals.thread(worker);
    }

    /** How many requests a worker's thread has taken since it was first used. */
    @Override
    public long taken(Object worker) {
        LongAdder count = worker == null ? null : taken.get(worker);
        return count == null ? 0 : count.sum();
    }

    @Override
    public void letGo(Object worker) {
        synchronized (idle) {
            leaving = retired.contains(worker) ? null : (Thread) worker;
            idle.stream().filter(turn -> turn.worker == leaving).findFirst().ifPresent(this::wake);
        }
    }

    private void wake(Turn turn) {
        idle.remove(turn);
        turn.release();
    }

    @Override
    public boolean keep(Object worker) {
        synchronized (idle) {
            boolean gone = leaving != worker;
            leaving = null;
            return gone;
        }
    }

    /**
     * End this worker.  It has no request, so that MMS closes its connection and starts another one
     * as if the process had ended by itself (WorkerThread.run).
     */
    private void end() throws InterruptedException {
        leaving = null;
        served.set(false);
        passOn();
        throw new InterruptedException("the worker is recycled");
    }

    /** An idle worker waits for it. */
    private static final class Turn extends Semaphore {
        private static final long serialVersionUID = 1L;

        private final transient Thread worker = Thread.currentThread();

        Turn() {
            super(0);
        }
    }
}
