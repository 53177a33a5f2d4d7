package mms_handler;

import com.amazonaws.ml.mms.wlm.WorkerThread;
import java.util.List;

/**
 * Ends the workers of one model that have served many requests or have grown, one at a time and
 * between two requests; MMS starts others in their place.
 */
final class Recycling {
    private static final boolean ON = Plugin.MAX_REQUESTS != null || Plugin.MAX_WORKER_MB != null;

    private final Lane lane;

    /** The worker that shall end; null if none shall. */
    private LaneWorker leaver;

    /** MMS's object for it, which gets the next process. */
    private WorkerThread thread;

    /** How many processes it has had. */
    private int starts;

    /** How many workers have been recycled. */
    int recycled;

    /** @param lane null if MMS hands requests to the workers */
    Recycling(Lane lane) {
        this.lane = lane;
    }

    /**
     * Look at the workers, and let one end if it is due.
     *
     * @param complete whether all workers serve; none ends while another one starts
     * @return whether a worker that was recycled has been started again
     */
    boolean update(List<WorkerThread> threads, boolean complete) {
        if (!ON || lane == null) {
            return false;
        }
        boolean restarted = leaver != null && hasRestarted(threads);
        if (leaver == null && complete) {
            threads.stream().filter(this::isDue).findFirst().ifPresent(this::end);
        }
        return restarted;
    }

    private boolean isDue(WorkerThread each) {
        LaneWorker worker = lane.worker(each.getPid());
        if (worker == null || worker.taken == 0) {
            return false;
        }
        boolean many = Plugin.MAX_REQUESTS != null && worker.taken >= Plugin.MAX_REQUESTS;
        long megabytes = Plugin.MAX_WORKER_MB == null ? 0 : megabytes(each);
        boolean large = Plugin.MAX_WORKER_MB != null && megabytes > Plugin.MAX_WORKER_MB;
        if (many || large) {
            String reason = large ? "uses " + megabytes + " MB" : "took " + worker.taken + " requests";
            Plugin.LOG.warn("a worker of {} is recycled: it {}", lane.model.getModelName(), reason);
        }
        return many || large;
    }

    /** A worker's own memory if all that it has is above the limit; the kernel has that at hand. */
    private static long megabytes(WorkerThread each) {
        long all = Processes.residentBytes(each.getPid()) >> 20;
        return all > Plugin.MAX_WORKER_MB ? Processes.ownBytes(each.getPid()) >> 20 : all;
    }

    private void end(WorkerThread each) {
        thread = each;
        starts = MmsInternals.starts(each);
        leaver = lane.worker(each.getPid());
        lane.letGo(leaver);
    }

    /** It may also have died while it was busy, or have been ended by a scaling. */
    private boolean hasRestarted(List<WorkerThread> threads) {
        boolean started = MmsInternals.starts(thread) > starts;
        if (!started && threads.contains(thread)) {
            return false;
        }
        leaver = null;
        boolean gone = lane.keep() && started;
        recycled += gone ? 1 : 0;
        return gone;
    }
}
