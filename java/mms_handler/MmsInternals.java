package mms_handler;

import com.amazonaws.ml.mms.wlm.Job;
import com.amazonaws.ml.mms.wlm.Model;
import com.amazonaws.ml.mms.wlm.ModelManager;
import com.amazonaws.ml.mms.wlm.WorkLoadManager;
import com.amazonaws.ml.mms.wlm.WorkerThread;
import io.netty.channel.ChannelHandlerContext;
import java.lang.reflect.Field;
import java.util.ArrayList;
import java.util.Collections;
import java.util.Comparator;
import java.util.List;
import java.util.Map;
import java.util.concurrent.BlockingDeque;
import java.util.concurrent.LinkedBlockingDeque;
import java.util.concurrent.atomic.AtomicReference;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.BiFunction;
import java.util.function.ToIntFunction;

/**
 * All that the plug-in reads or changes inside MMS's objects beyond what their methods promise.
 * Written for MMS 1.1.11; another version may need another file.
 */
@SuppressWarnings("unchecked")
final class MmsInternals {
    /** Model's queues of requests by name; null if MMS has no such field. */
    private static final Field QUEUES = field(Model.class, "jobsDb");

    /** Model's lock, held by the worker that waits for the next batch; null if it has none. */
    private static final Field POLL_LOCK = field(Model.class, "lock");

    /** Job's connection to its client; null likewise. */
    private static final Field CLIENT = field(Job.class, "ctx");

    /** A worker's thread while it runs; null likewise. */
    private static final Field THREAD = field(WorkerThread.class, "currentThread");

    /** How often in a row a worker's process has failed: WorkerThread.retry waits the longer. */
    private static final Field FAILURES = field(WorkerThread.class, "backoffIdx");

    /** ModelManager's WorkLoadManager, and its lists of workers by the model's name. */
    private static final Field LOADS = field(ModelManager.class, "wlm");
    private static final Field WORKERS = field(WorkLoadManager.class, "workers");

    /** The worker that this thread ran last. */
    private static final ThreadLocal<WorkerThread> CURRENT = new ThreadLocal<>();

    private MmsInternals() {}

    /** Whether {@link #queue} gives the queue that MMS uses. */
    static boolean hasQueues() {
        return QUEUES != null;
    }

    /** The requests that wait for a worker of the model; an empty queue if they are unknown. */
    static BlockingDeque<Job> queue(Model model) {
        BlockingDeque<Job> queue = queues(model).get(Model.DEFAULT_DATA_QUEUE);
        return queue == null ? new LinkedBlockingDeque<>() : queue;
    }

    /**
     * Replace a model's queue, unless a worker already waits in it.
     *
     * @param replacement makes the new queue from the old one and the model's lock
     */
    static void replaceQueue(
            Model model,
            BiFunction<BlockingDeque<Job>, ReentrantLock, LinkedBlockingDeque<Job>> replacement) {
        ReentrantLock lock = POLL_LOCK == null ? null : (ReentrantLock) value(model, POLL_LOCK);
        if (QUEUES == null || lock == null || !lock.tryLock()) {
            return;
        }
        try {
            queues(model).computeIfPresent(
                    Model.DEFAULT_DATA_QUEUE, (name, queue) -> replacement.apply(queue, lock));
        } finally {
            lock.unlock();
        }
    }

    /**
     * How often MMS has started a process for this worker.  It appends "-CHANNEL" to the worker's
     * id each time it connects to a new one (WorkerThread.connect), so none is missed.
     */
    static int starts(WorkerThread worker) {
        return Math.max(1, worker.getWorkerId().split("-").length - 1);
    }

    /** If a worker that has loaded its model dies, start the next process without MMS's second. */
    static void restartAtOnce(WorkerThread worker) {
        try {
            if (FAILURES != null && FAILURES.getInt(worker) == 0) {
                FAILURES.setInt(worker, -1);
            }
        } catch (IllegalAccessException e) {
            throw new IllegalStateException(e);
        }
    }

    /** The connection on which a request came; null if it is unknown. */
    static ChannelHandlerContext client(Job job) {
        return CLIENT == null ? null : (ChannelHandlerContext) value(job, CLIENT);
    }

    /** The thread that runs a worker; null if none does, or if it is unknown. */
    static Thread thread(WorkerThread worker) {
        return THREAD == null ? null : ((AtomicReference<Thread>) value(worker, THREAD)).get();
    }

    /** The process id of the worker whose thread this is; 0 if it is unknown. */
    static int currentPid(Model model) {
        WorkerThread worker = CURRENT.get();
        if (worker == null || thread(worker) != Thread.currentThread()) {
            worker =
                    ModelManager.getInstance().getWorkers(model.getModelName()).stream()
                            .filter(w -> w != null && thread(w) == Thread.currentThread())
                            .findFirst()
                            .orElse(null);
            CURRENT.set(worker);
        }
        return worker == null ? 0 : worker.getPid();
    }

    /**
     * Sort MMS's list of a model's workers: it ends the last ones first.
     *
     * @param rank a number for each worker; the highest is ended first
     */
    static void sort(Model model, ToIntFunction<WorkerThread> rank) {
        if (LOADS == null || WORKERS == null) {
            return;
        }
        Object loads = value(ModelManager.getInstance(), LOADS);
        Map<String, List<WorkerThread>> workers =
                (Map<String, List<WorkerThread>>) value(loads, WORKERS);
        synchronized (model.getModelName()) { // as WorkLoadManager.modelChanged
            workers.getOrDefault(model.getModelName(), new ArrayList<>())
                    .sort(Comparator.comparingInt(rank));
        }
    }

    private static Map<String, LinkedBlockingDeque<Job>> queues(Model model) {
        return QUEUES == null
                ? Collections.emptyMap()
                : (Map<String, LinkedBlockingDeque<Job>>) value(model, QUEUES);
    }

    private static Object value(Object object, Field field) {
        try {
            return field.get(object);
        } catch (IllegalAccessException e) {
            throw new IllegalStateException(e);
        }
    }

    private static Field field(Class<?> owner, String name) {
        try {
            Field field = owner.getDeclaredField(name);
            field.setAccessible(true);
            return field;
        } catch (ReflectiveOperationException | RuntimeException e) {
            Plugin.LOG.warn("cannot reach MMS's queues and workers: requests wait longer", e);
            return null;
        }
    }
}
