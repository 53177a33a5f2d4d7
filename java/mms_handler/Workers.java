package mms_handler;

import com.amazonaws.ml.mms.util.ConfigManager;
import com.amazonaws.ml.mms.wlm.Model;
import com.amazonaws.ml.mms.wlm.ModelManager;
import com.amazonaws.ml.mms.wlm.WorkerState;
import com.amazonaws.ml.mms.wlm.WorkerThread;
import java.io.File;
import java.util.Arrays;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.TreeMap;
import java.util.WeakHashMap;
import java.util.concurrent.TimeUnit;

/** The workers of one model, and from those of all models whether requests can be served. */
final class Workers {
    /** What /ping answers; the texts of the first two are MMS's. */
    enum Health {
        HEALTHY(200, "Healthy"),
        PARTIAL(200, "Partial Healthy"),
        LOADING(503, "Loading"),
        UNHEALTHY(503, "Unhealthy"),
        DRAINING(503, "Draining");

        final int status;
        final String text;

        Health(int status, String text) {
            this.status = status;
            this.text = text;
        }
    }

    private static final long PERIOD_MS = 250;

    /** The periods between two readings of memory: one takes a millisecond for 100 MB. */
    private static final int MEMORY_PERIODS = 4;

    /** A model may be without a worker for so long; MMS starts one within a second. */
    private static final long PATIENCE_NS = TimeUnit.SECONDS.toNanos(10);

    /** Listeners of our workers keep what is known about a dead one, so MMS need not wait. */
    private static final String HANDLER = "mms_handler.service:handle";

    private static final int EXPECTED_MODELS = expectedModels();
    private static final Map<String, Workers> REGISTERED = new TreeMap<>();

    /** Whether all expected models had loaded at one time. */
    private static boolean complete;

    final Model model;
    private final Lane lane;
    final Recycling recycling;
    List<WorkerThread> threads;
    int expected;
    int alive;
    int restarts;
    private final Map<WorkerThread, Integer> starts = new WeakHashMap<>();
    private boolean loaded;
    private int reads;
    private long aliveAt;

    private Workers(Model model) {
        this.model = model;
        lane = Plane.lane(model);
        recycling = new Recycling(lane);
    }

    /** Update periodically from now on; the gate accepts as soon as MMS has a model manager. */
    static void watch() {
        Thread watch = new Thread(Workers::keepUpdating, "mms_handler-watch");
        watch.setDaemon(true);
        watch.start();
    }

    private static void keepUpdating() {
        try {
            while (ModelManager.getInstance() == null) {
                Thread.sleep(10);
            }
            Gate.accept();
            for (; ; Thread.sleep(PERIOD_MS)) {
                tryUpdate();
            }
        } catch (InterruptedException e) {
            Plugin.LOG.warn("the watch over the workers was interrupted and has ended", e);
        }
    }

    private static void tryUpdate() {
        try {
            update();
        } catch (RuntimeException e) {
            Plugin.LOG.error("cannot read the state of the workers", e);
        }
    }

    /** Read the current state of each registered model's workers from MMS. */
    static synchronized Collection<Workers> update() {
        Map<String, Model> models = ModelManager.getInstance().getModels();
        REGISTERED.values().removeIf(w -> w.model != models.get(w.model.getModelName()));
        Plane.forgetOthers(models);
        ScriptMetrics.forgetOthers(models);
        models.forEach((name, model) -> REGISTERED.computeIfAbsent(name, n -> new Workers(model)));
        REGISTERED.values().forEach(Workers::read);
        long loaded = REGISTERED.values().stream().filter(w -> w.loaded).count();
        complete |= loaded >= EXPECTED_MODELS && isConfirmed();
        Live.note(REGISTERED.values());
        return REGISTERED.values();
    }

    private static boolean isConfirmed() {
        return Plugin.READY_FILE == null || new File(Plugin.READY_FILE).exists();
    }

    static synchronized Health health() {
        if (Connection.draining) {
            return Health.DRAINING;
        }
        Collection<Workers> all = update();
        long loadingNs = Routes.longestLoadingNs();
        boolean late = complete && loadingNs > PATIENCE_NS; // the first load may take long
        if (late || all.stream().anyMatch(Workers::hasFailed)) {
            return Health.UNHEALTHY;
        }
        if (!complete || all.stream().anyMatch(Workers::isAwaited)) {
            return Health.LOADING;
        }
        boolean partial = all.stream().anyMatch(w -> w.loaded && w.alive < w.expected);
        return partial || loadingNs > 0 ? Health.PARTIAL : Health.HEALTHY;
    }

    private void read() {
        threads = ModelManager.getInstance().getWorkers(model.getModelName());
        threads.removeIf(Objects::isNull); // copied while other threads changed the list
        if (reads++ % MEMORY_PERIODS == 0) {
            threads.forEach(w -> w.setMemory(Processes.proportionalBytes(w.getPid())));
        }
        if (HANDLER.equals(model.getModelArchive().getHandler())) {
            threads.stream().filter(Workers::isAlive).forEach(MmsInternals::restartAtOnce);
        }
        threads.forEach(this::countRestarts);
        starts.keySet().forEach(this::endScaledDown);
        expected = model.getMinWorkers();
        alive = (int) threads.stream().filter(Workers::isAlive).count();
        if (recycling.update(threads, alive >= expected)) {
            restarts--; // no worker died
        }
        loaded |= expected > 0 && alive >= expected;
        if (alive > 0 || expected == 0) {
            aliveAt = System.nanoTime();
        }
    }

    /** How many requests wait for a worker. */
    int waiting() {
        return lane == null ? MmsInternals.waiting(model) : lane.length();
    }

    /** How many requests may wait for a worker. */
    int capacity() {
        return ConfigManager.getInstance().getJobQueueSize();
    }

    /** How many processes have not loaded the model yet. */
    int loading() {
        return (int) threads.stream().filter(Workers::isLoading).count();
    }

    private static boolean isLoading(WorkerThread thread) {
        return thread.getState() == WorkerState.WORKER_STARTED && thread.isRunning();
    }

    /** WorkerThread.isRunning() stays true after the process has died; the state does not. */
    static boolean isAlive(WorkerThread thread) {
        return thread.getState() == WorkerState.WORKER_MODEL_LOADED;
    }

    private void countRestarts(WorkerThread thread) {
        int count = MmsInternals.starts(thread);
        Integer previous = starts.put(thread, count);
        restarts += count - (previous == null ? 1 : previous);
    }

    /**
     * End a worker that MMS removed from its list and started nevertheless: one that had died, and
     * was to be tried again when it was scaled down (WorkerThread.retry).
     */
    private void endScaledDown(WorkerThread thread) {
        boolean removed = thread.getState() == WorkerState.WORKER_SCALED_DOWN;
        if (removed && thread.isRunning() && !threads.contains(thread)) {
            thread.shutdown();
        }
    }

    /** With a supervisor, a model that is registered later does not make the server wait for it. */
    private boolean isAwaited() {
        boolean later = Plugin.MULTI_MODEL || Plugin.READY_FILE != null;
        return expected > 0 && !loaded && !later;
    }

    private boolean hasFailed() {
        boolean served = Routes.isServed(model.getModelName());
        return loaded && served && System.nanoTime() - aliveAt > PATIENCE_NS;
    }

    private static int expectedModels() {
        ConfigManager config = ConfigManager.getInstance();
        if (Plugin.EXPECTED_MODELS != null) {
            return Plugin.EXPECTED_MODELS;
        }
        if (Plugin.MULTI_MODEL || config.getLoadModels() == null) {
            return 0;
        }
        if (config.getLoadModels().equalsIgnoreCase("ALL")) {
            return archives(new File(String.valueOf(config.getModelStore())));
        }
        String[] models = config.getLoadModels().split(",");
        return (int) Arrays.stream(models).filter(model -> !model.matches("([^=]*=)?")).count();
    }

    /** How many models load_models=ALL loads (ModelServer.initModelStore). */
    private static int archives(File store) {
        File[] models = store.listFiles(Workers::isModel);
        return models == null ? 0 : models.length;
    }

    private static boolean isModel(File file) {
        boolean archive = !file.isFile() || file.getName().matches(".*\\.(mar|model)");
        return archive && !file.isHidden();
    }
}
