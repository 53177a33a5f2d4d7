package mms_handler;

import com.amazonaws.ml.mms.wlm.Job;
import com.amazonaws.ml.mms.wlm.Model;
import io.netty.handler.codec.http.HttpResponseStatus;
import java.lang.reflect.Field;
import java.util.ArrayDeque;
import java.util.Collections;
import java.util.Deque;
import java.util.Map;
import java.util.concurrent.BlockingDeque;
import java.util.concurrent.LinkedBlockingDeque;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.ReentrantLock;

/**
 * The requests that wait for a worker of one model.  Of idle workers the one that was busy last has
 * the next: the caches know it.  With MMS's own, they take turns.
 */
final class Queue extends LinkedBlockingDeque<Job> {
    private static final long serialVersionUID = 1L;

    /** Model's queues, and its lock, which it keeps to itself; null where they cannot be had. */
    private static final Field QUEUES = field("jobsDb");

    private static final Field LOCK = field("lock");

    /** MMS's own, for what was on its way into it. */
    private final transient BlockingDeque<Job> before;

    /** Held by the worker that asks for requests. */
    private final ReentrantLock asking;

    /** The last to become idle is the first; behind all, who has not had a request yet. */
    private final transient Deque<Semaphore> idle = new ArrayDeque<>();

    /** Who has: one whose model has not loaded asks too, and is gone soon. */
    private final transient ThreadLocal<Boolean> served = ThreadLocal.withInitial(() -> false);

    private Queue(BlockingDeque<Job> before, ReentrantLock asking) {
        super(before.size() + before.remainingCapacity());
        this.before = before;
        this.asking = asking;
        catchUp();
    }

    /** Take the place of MMS's own, unless a worker waits there already. */
    static void adopt(Model model) {
        ReentrantLock asking = LOCK == null ? null : (ReentrantLock) of(model, LOCK);
        if (QUEUES == null || asking == null || !asking.tryLock()) {
            return;
        }
        try {
            queues(model).computeIfPresent(
                    Model.DEFAULT_DATA_QUEUE, (name, before) -> new Queue(before, asking));
        } finally {
            asking.unlock();
        }
    }

    /** Take over what came into MMS's own all the same. */
    static void catchUp(Model model) {
        BlockingDeque<Job> jobs = jobs(model);
        if (jobs instanceof Queue) {
            ((Queue) jobs).catchUp();
        }
    }

    private void catchUp() {
        for (Job job = before.poll(); job != null; job = before.poll()) {
            if (!offer(job)) {
                job.sendError(HttpResponseStatus.SERVICE_UNAVAILABLE, "The queue is full.");
            }
        }
    }

    static boolean known() {
        return QUEUES != null;
    }

    static int length(Model model) {
        return jobs(model).size();
    }

    /** MMS forgets the requests of a model that is unregistered; their clients would wait for ever. */
    static void refuse(Model model) {
        catchUp(model);
        BlockingDeque<Job> jobs = jobs(model);
        for (Job job = jobs.poll(); job != null; job = jobs.poll()) {
            job.sendError(HttpResponseStatus.SERVICE_UNAVAILABLE, "The model is unregistered.");
        }
    }

    @Override
    public boolean offerLast(Job job) {
        synchronized (idle) {
            return super.offerLast(job) && wake();
        }
    }

    @Override
    public boolean offerFirst(Job job) {
        synchronized (idle) {
            return super.offerFirst(job) && wake();
        }
    }

    /** Also where nobody is idle: whoever is next looks here first. */
    private boolean wake() {
        Semaphore turn = idle.poll();
        if (turn != null) {
            turn.release();
        }
        return true;
    }

    /** MMS waits for ever for the first of a batch, for the rest it does not. */
    @Override
    public Job poll(long timeout, TimeUnit unit) throws InterruptedException {
        return timeout == Long.MAX_VALUE ? first() : super.poll(timeout, unit);
    }

    private Job first() throws InterruptedException {
        for (; ; ) {
            Semaphore turn = new Semaphore(0);
            synchronized (idle) {
                Job job = poll();
                if (job != null) {
                    served.set(true);
                    return job;
                }
                if (served.get()) {
                    idle.addFirst(turn);
                } else {
                    idle.addLast(turn);
                }
            }
            asking.unlock();
            try {
                turn.acquire();
                asking.lockInterruptibly();
            } catch (InterruptedException e) {
                served.set(false); // its worker is gone
                leave(turn);
                throw e;
            }
        }
    }

    /** If its turn had come, it is another's. */
    private void leave(Semaphore turn) {
        synchronized (idle) {
            if (!idle.remove(turn)) {
                wake();
            }
        }
    }

    private static BlockingDeque<Job> jobs(Model model) {
        BlockingDeque<Job> jobs = queues(model).get(Model.DEFAULT_DATA_QUEUE);
        return jobs == null ? new LinkedBlockingDeque<>() : jobs;
    }

    @SuppressWarnings("unchecked")
    private static Map<String, LinkedBlockingDeque<Job>> queues(Model model) {
        return QUEUES == null
                ? Collections.emptyMap()
                : (Map<String, LinkedBlockingDeque<Job>>) of(model, QUEUES);
    }

    private static Object of(Model model, Field field) {
        try {
            return field.get(model);
        } catch (IllegalAccessException e) {
            throw new IllegalStateException(e);
        }
    }

    private static Field field(String name) {
        try {
            Field field = Model.class.getDeclaredField(name);
            field.setAccessible(true);
            return field;
        } catch (ReflectiveOperationException | RuntimeException e) {
            Plugin.LOG.warn("MMS's queues are out of reach", e);
            return null;
        }
    }
}
