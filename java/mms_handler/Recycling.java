package mms_handler;

import com.amazonaws.ml.mms.wlm.Model;
import com.amazonaws.ml.mms.wlm.WorkerThread;
import java.util.List;
import java.util.Map;
import java.util.WeakHashMap;
import java.util.concurrent.BlockingDeque;

/**
 * Ends the workers of one model that have served many requests or have grown, one at a time and
 * between two requests; MMS starts others in their place.
 */
final class Recycling {
    static final boolean ON = Plugin.MAX_REQUESTS != null || Plugin.MAX_WORKER_MB != null;

    private final Model model;
    private final Map<WorkerThread, Life> lives = new WeakHashMap<>();

    /** The worker that shall end; null if none shall. */
    private WorkerThread leaver;

    /** The process of the leaver. */
    private Life last;

    /** How many workers have been recycled. */
    int recycled;

    Recycling(Model model) {
        this.model = model;
    }

    /**
     * Look at the workers, and let one end if it is due.
     *
     * @param complete whether all workers serve; none ends while another one starts
     * @return whether a worker that was recycled has been started again
     */
    boolean update(List<WorkerThread> workers, boolean complete) {
        Staff staff = staff();
        if (!ON || staff == null) {
            return false;
        }
        boolean restarted = leaver != null && hasRestarted(workers, staff);
        workers.forEach(worker -> follow(worker, staff));
        if (leaver == null && complete) {
            workers.stream().filter(w -> isDue(w, staff)).findFirst().ifPresent(w -> end(w, staff));
        }
        return restarted;
    }

    private Staff staff() {
        Lane lane = Plane.lane(model);
        BlockingDeque<?> queue = MmsInternals.queue(model);
        return lane != null ? lane : queue instanceof RequestQueue ? (RequestQueue) queue : null;
    }

    /** Note a worker's new process, and how many requests its thread had taken before. */
    private void follow(WorkerThread worker, Staff staff) {
        Object process = staff.process(worker);
        int starts = MmsInternals.starts(worker);
        Life life = lives.get(worker);
        if (life == null || life.starts != starts || life.process != process) {
            lives.put(worker, new Life(starts, process, staff.taken(process)));
        }
    }

    private boolean isDue(WorkerThread worker, Staff staff) {
        Life life = lives.get(worker);
        long requests = staff.taken(life.process) - life.takenBefore;
        if (life.process == null || requests == 0) {
            return false;
        }
        long bytes = Plugin.MAX_WORKER_MB == null ? 0 : Metrics.residentBytes(worker);
        long megabytes = bytes >> 20;
        boolean many = Plugin.MAX_REQUESTS != null && requests >= Plugin.MAX_REQUESTS;
        boolean large = Plugin.MAX_WORKER_MB != null && megabytes > Plugin.MAX_WORKER_MB;
        if (many || large) {
            String reason = large ? "uses " + megabytes + " MB" : "took " + requests + " requests";
            Plugin.LOG.warn("a worker of {} is recycled: it {}", model.getModelName(), reason);
        }
        return many || large;
    }

    private void end(WorkerThread worker, Staff staff) {
        leaver = worker;
        last = lives.get(worker);
        staff.letGo(last.process);
    }

    /** A leaver may also have died while it was busy, or have been ended by a scaling. */
    private boolean hasRestarted(List<WorkerThread> workers, Staff staff) {
        boolean started = MmsInternals.starts(leaver) > last.starts;
        if (!started && workers.contains(leaver)) {
            return false;
        }
        leaver = null;
        boolean gone = staff.keep(last.process) && started;
        recycled += gone ? 1 : 0;
        return gone;
    }

    /** One process of a worker. */
    private static final class Life {
        final int starts;
        final Object process;
        final long takenBefore;

        Life(int starts, Object process, long takenBefore) {
            this.starts = starts;
            this.process = process;
            this.takenBefore = takenBefore;
        }
    }
}
