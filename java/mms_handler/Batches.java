package mms_handler;

import com.amazonaws.ml.mms.wlm.Model;
import java.io.File;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicInteger;

/**
 * How many requests of one model MMS hands over together: up to as many as it was registered with,
 * one while there are few.  MMS waits a millisecond for the rest of a batch, also where nobody else
 * is there to send it.
 */
final class Batches {
    /** What takes so long gains nothing from company, and makes it wait. */
    private static final double HEAVY_NS = 3e6;

    /** One part in so many of the mean is the latest request's. */
    private static final int MEMORY = 16;

    /** What a worker leaves beside a model whose requests it answers one by one in any case. */
    private static final String ALONE = "MAR-INF/one-by-one";

    private static final Map<String, Batches> BY_MODEL = new ConcurrentHashMap<>();

    private final Model model;
    private final int registered;
    private final AtomicInteger inFlight = new AtomicInteger();
    private volatile int most = 1;
    private volatile int workers = 1;
    private volatile int size = 1;
    private volatile double serviceNs;

    private Batches(Model model) {
        this.model = model;
        registered = model.getBatchSize();
        model.setBatchSize(1);
    }

    /** From now on a model's batch size is chosen here. */
    static Batches follow(Model model) {
        Batches batches = new Batches(model);
        BY_MODEL.put(model.getModelName(), batches);
        return batches;
    }

    static void forget(Model model) {
        BY_MODEL.computeIfPresent(
                model.getModelName(), (name, found) -> found.model == model ? null : found);
    }

    /** Of the model that a URI invokes; null where it is none. */
    static Batches of(String uri) {
        String name = BY_MODEL.isEmpty() ? null : new Target(uri).model();
        return name == null ? null : BY_MODEL.get(name);
    }

    /** So many workers have loaded the model. */
    void serve(int alive) {
        workers = Math.max(1, alive);
        boolean alone = new File(model.getModelDir(), ALONE).exists();
        most = alive == 0 || alone ? 1 : registered;
    }

    void begin() {
        int now = inFlight.incrementAndGet();
        int each = serviceNs > HEAVY_NS ? 1 : now / workers;
        int wanted = Math.max(1, Math.min(most, each));
        if (wanted != size) {
            size = wanted;
            model.setBatchSize(wanted);
        }
    }

    /** The time is shared with the others in flight, as far as there are workers for them. */
    void answered(long tookNs) {
        double alone = (double) tookNs * workers / Math.max(workers, inFlight.get());
        serviceNs += (alone - serviceNs) / MEMORY;
    }

    void end() {
        inFlight.decrementAndGet();
    }
}
