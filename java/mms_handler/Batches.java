package mms_handler;

import com.amazonaws.ml.mms.wlm.Model;
import java.io.File;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicInteger;

/**
 * The batch size of one model: 1 while there are few requests, and up to the size that the model
 * was registered with.  MMS waits a millisecond to fill a batch even if nobody else sends requests.
 */
final class Batches {
    /** A model that takes longer for a request gains nothing from a batch, and delays others. */
    private static final double HEAVY_NS = 3e6;

    /** The latest request has a weight of one in this many in the mean time. */
    private static final int MEMORY = 16;

    /** A worker writes this file for a model whose requests it always answers one by one. */
    private static final String ONE_BY_ONE = "MAR-INF/one-by-one";

    private static final Map<String, Batches> BY_MODEL = new ConcurrentHashMap<>();

    private final Model model;
    private final int registeredSize;
    private final AtomicInteger inFlight = new AtomicInteger();
    private volatile int maxSize = 1;
    private volatile int workers = 1;
    private volatile int size = 1;
    private volatile double serviceNs;

    private Batches(Model model) {
        this.model = model;
        registeredSize = model.getBatchSize();
        model.setBatchSize(1);
    }

    /** Choose a model's batch size here from now on. */
    static Batches follow(Model model) {
        Batches batches = new Batches(model);
        BY_MODEL.put(model.getModelName(), batches);
        return batches;
    }

    static void forget(Model model) {
        BY_MODEL.computeIfPresent(
                model.getModelName(), (name, batches) -> batches.model == model ? null : batches);
    }

    /** The batches of the model that MMS has under this name; null if it has none. */
    static Batches of(String mmsName) {
        return BY_MODEL.get(mmsName);
    }

    /** A line with the name of each model and the number of its requests in flight. */
    static String inFlightByModel() {
        StringBuilder lines = new StringBuilder();
        BY_MODEL.forEach((name, batches) -> lines.append(name + " " + batches.inFlight() + "\n"));
        return lines.toString();
    }

    /** Take note that this many workers have the model loaded. */
    void setWorkers(int alive) {
        workers = Math.max(1, alive);
        boolean oneByOne = new File(model.getModelDir(), ONE_BY_ONE).exists();
        maxSize = alive == 0 || oneByOne ? 1 : registeredSize;
    }

    /** A request has come: choose the batch size. */
    void begin() {
        int requests = inFlight.incrementAndGet();
        int perWorker = serviceNs > HEAVY_NS ? 1 : requests / workers;
        int newSize = Math.max(1, Math.min(maxSize, perWorker));
        if (newSize != size) {
            size = newSize;
            model.setBatchSize(newSize);
        }
    }

    /** A request was answered.  Requests that exceed the workers share the time between them. */
    void answered(long requestNs) {
        double shareNs = (double) requestNs * workers / Math.max(workers, inFlight.get());
        serviceNs += (shareNs - serviceNs) / MEMORY;
    }

    int inFlight() {
        return inFlight.get();
    }

    /** A request is no longer in flight, answered or not. */
    void end() {
        inFlight.decrementAndGet();
    }
}
