package mms_handler;

import com.amazonaws.ml.mms.wlm.Model;
import com.amazonaws.ml.mms.wlm.WorkerThread;
import java.lang.reflect.Field;
import java.util.Collection;
import java.util.Map;

/**
 * All that the plug-in reads or changes inside MMS's objects beyond what their methods promise.
 * Written for MMS 1.1.11; another version may need another file.
 */
final class MmsInternals {
    /** Model's queues of requests by name; null if MMS has no such field. */
    private static final Field QUEUES = field(Model.class, "jobsDb");

    /** How often in a row a worker's process has failed: WorkerThread.retry waits the longer. */
    private static final Field FAILURES = field(WorkerThread.class, "backoffIdx");

    /** The name of the thread that reads what a worker prints, without its end; it is unique. */
    private static final Field THREAD = field(WorkerThread.class, "threadName");

    private MmsInternals() {}

    /** How many requests wait in MMS for a worker of the model; 0 if that is unknown. */
    static int waiting(Model model) {
        try {
            Map<?, ?> queues = QUEUES == null ? null : (Map<?, ?>) QUEUES.get(model);
            Object queue = queues == null ? null : queues.get(Model.DEFAULT_DATA_QUEUE);
            return queue == null ? 0 : ((Collection<?>) queue).size();
        } catch (IllegalAccessException e) {
            throw new IllegalStateException(e);
        }
    }

    /**
     * How often MMS has started a process for this worker.  It appends "-CHANNEL" to the worker's
     * id each time it connects to a new one (WorkerThread.connect), so none is missed.
     */
    static int starts(WorkerThread worker) {
        return Math.max(1, worker.getWorkerId().split("-").length - 1);
    }

    /** How the threads of MMS that have to do with a worker are called; "" if that is unknown. */
    static String threadName(WorkerThread worker) {
        try {
            return THREAD == null ? "" : (String) THREAD.get(worker);
        } catch (IllegalAccessException e) {
            throw new IllegalStateException(e);
        }
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

    private static Field field(Class<?> owner, String name) {
        try {
            Field field = owner.getDeclaredField(name);
            field.setAccessible(true);
            return field;
        } catch (ReflectiveOperationException | RuntimeException e) {
            Plugin.LOG.warn("cannot reach MMS's queues and workers", e);
            return null;
        }
    }
}
