package mms_handler;

import com.amazonaws.ml.mms.wlm.WorkerThread;

/** The workers of one model, as far as some of them shall take no more requests. */
interface Staff {
    /**
     * Let this many workers take no more requests: idle ones, least recently busy first, then those
     * that become idle.
     *
     * @return whether some of them are still busy
     */
    boolean retire(int workers);

    /** Let the workers that are still busy go on taking requests. */
    void retireNoMore();

    boolean isRetired(WorkerThread worker);

    /** What stands for a worker's current process here; null if it has none. */
    Object process(WorkerThread worker);

    /** How many requests a process has taken, or what stands for it. */
    long taken(Object process);

    /** Let a process end: now if it is idle, otherwise once it has answered its requests. */
    void letGo(Object process);

    /** Let the process stay if it has not gone yet, and return whether it has gone. */
    boolean keep(Object process);
}
