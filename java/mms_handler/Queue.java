package mms_handler;

import com.amazonaws.ml.mms.wlm.Job;
import com.amazonaws.ml.mms.wlm.Model;
import io.netty.handler.codec.http.HttpResponseStatus;
import java.lang.reflect.Field;
import java.util.Collections;
import java.util.Map;
import java.util.concurrent.BlockingDeque;
import java.util.concurrent.LinkedBlockingDeque;

/** The requests that wait for a worker of one model. */
final class Queue {
    /** Model's queues, which it keeps to itself; null where they cannot be had. */
    private static final Field QUEUES = queues();

    private Queue() {}

    static boolean known() {
        return QUEUES != null;
    }

    static int length(Model model) {
        return jobs(model).size();
    }

    /** MMS forgets the requests of a model that is unregistered; their clients would wait for ever. */
    static void refuse(Model model) {
        BlockingDeque<Job> jobs = jobs(model);
        for (Job job = jobs.poll(); job != null; job = jobs.poll()) {
            job.sendError(HttpResponseStatus.SERVICE_UNAVAILABLE, "The model is unregistered.");
        }
    }

    @SuppressWarnings("unchecked")
    private static BlockingDeque<Job> jobs(Model model) {
        try {
            Map<?, ?> queues = QUEUES == null ? Collections.emptyMap() : (Map<?, ?>) QUEUES.get(model);
            Object jobs = queues.get(Model.DEFAULT_DATA_QUEUE);
            return jobs == null ? new LinkedBlockingDeque<>() : (BlockingDeque<Job>) jobs;
        } catch (IllegalAccessException e) {
            throw new IllegalStateException(e);
        }
    }

    private static Field queues() {
        try {
            Field field = Model.class.getDeclaredField("jobsDb");
            field.setAccessible(true);
            return field;
        } catch (ReflectiveOperationException | RuntimeException e) {
            Plugin.LOG.warn("MMS's queues are out of reach", e);
            return null;
        }
    }
}
