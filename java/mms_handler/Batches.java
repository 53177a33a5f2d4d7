package mms_handler;

import com.amazonaws.ml.mms.wlm.ModelManager;

/**
 * How many requests MMS hands over together: one while there are few, more while more wait than
 * there are workers.  MMS waits a millisecond for the rest of a batch, also where nobody else is
 * there to send it.
 */
final class Batches {
    /** What takes so long gains nothing from company, and makes it wait. */
    private static final double HEAVY_NS = 3e6;

    /** One part in so many of the mean is the latest request's. */
    private static final int MEMORY = 16;

    private static volatile int size = 1;
    private static volatile double serviceNs;

    private Batches() {}

    static void begin(int inFlight) {
        if (Plugin.BATCH > 1) {
            int each = serviceNs > HEAVY_NS ? 1 : inFlight / Math.max(1, Workers.total());
            adopt(Math.max(1, Math.min(Plugin.BATCH, each)));
        }
    }

    /** The time is shared with the others in flight, as far as there are workers for them. */
    static void end(long tookNs, int inFlight) {
        int workers = Math.max(1, Workers.total());
        double alone = (double) tookNs * workers / Math.max(workers, inFlight);
        serviceNs += (alone - serviceNs) / MEMORY;
    }

    static int size() {
        return size;
    }

    private static void adopt(int wanted) {
        if (wanted != size) {
            size = wanted;
            ModelManager.getInstance().getModels().values().forEach(m -> m.setBatchSize(wanted));
        }
    }
}
