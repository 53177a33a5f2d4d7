package mms_handler;

import com.amazonaws.ml.mms.util.ConfigManager;
import com.amazonaws.ml.mms.wlm.Model;
import com.amazonaws.ml.mms.wlm.ModelManager;
import com.amazonaws.ml.mms.wlm.WorkerState;
import com.amazonaws.ml.mms.wlm.WorkerThread;
import java.io.File;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.TreeMap;
import java.util.WeakHashMap;
import java.util.concurrent.TimeUnit;

/** What has been seen of one model's workers; all together, whether the models can be served. */
final class Workers {
    /** What /ping answers; the words of the first two are MMS's. */
    enum Health {
        HEALTHY(200, "Healthy"),
        PARTIAL(200, "Partial Healthy"),
        LOADING(503, "Loading"),
        UNHEALTHY(503, "Unhealthy"),
        DRAINING(503, "Draining");

        final int status;
        final String words;

        Health(int status, String words) {
            this.status = status;
            this.words = words;
        }
    }

    private static final long PERIOD_MS = 250;

    /** So long may a model that has loaded be without a worker: MMS begins one after a second. */
    private static final long PATIENCE_NS = TimeUnit.SECONDS.toNanos(10);

    private static final int EXPECTED = expected();
    private static final Map<String, Workers> SEEN = new TreeMap<>();
    private static final List<Workers> GONE = new ArrayList<>();

    /** Whether as many models as are expected had loaded at one time. */
    private static boolean complete;

    final Model model;
    private final Batches batches;
    List<WorkerThread> threads;
    int wanted;
    int alive;
    int restarts;
    private final Map<WorkerThread, Integer> starts = new WeakHashMap<>();
    private boolean loaded;
    private long aliveAt;
    private long goneAt;

    private Workers(Model model) {
        this.model = model;
        batches = Plugin.GATE == null ? null : Batches.follow(model);
        if (Plugin.GATE != null) {
            Queue.adopt(model);
        }
    }

    /** From now on look again and again; the gate accepts as soon as there is something to see. */
    static void watch() {
        Thread watch = new Thread(Workers::lookOn, "mms_handler-watch");
        watch.setDaemon(true);
        watch.start();
    }

    private static void lookOn() {
        try {
            while (ModelManager.getInstance() == null) {
                Thread.sleep(10);
            }
            Gate.accept();
            for (; ; Thread.sleep(PERIOD_MS)) {
                lookAgain();
            }
        } catch (InterruptedException e) {
            Plugin.LOG.warn("nobody looks at the workers any more", e);
        }
    }

    private static void lookAgain() {
        try {
            look();
        } catch (RuntimeException e) {
            Plugin.LOG.error("the workers cannot be looked at", e);
        }
    }

    /** Each registered model's workers as they are now. */
    static synchronized Collection<Workers> look() {
        Map<String, Model> models = ModelManager.getInstance().getModels();
        SEEN.values().forEach(seen -> seen.leave(models.get(seen.model.getModelName())));
        SEEN.values().removeIf(seen -> seen.goneAt != 0);
        GONE.removeIf(Workers::refuseWaiting);
        models.forEach((name, model) -> SEEN.computeIfAbsent(name, n -> new Workers(model)));
        SEEN.values().forEach(Workers::update);
        long loaded = SEEN.values().stream().filter(seen -> seen.loaded).count();
        complete |= loaded >= EXPECTED && confirmed();
        if (Plugin.GATE != null && !Plugin.MULTI_MODEL) {
            callStartupModels(models.keySet());
        }
        return SEEN.values();
    }

    private void leave(Model now) {
        if (now != model) {
            goneAt = System.nanoTime();
            GONE.add(this);
            Batches.forget(model);
        }
    }

    /** For a while, since a request may have been on its way into the queue. */
    private boolean refuseWaiting() {
        Queue.refuse(model);
        return System.nanoTime() - goneAt > PATIENCE_NS;
    }

    private static boolean confirmed() {
        return Plugin.READY_FILE == null || new File(Plugin.READY_FILE).exists();
    }

    /** MMS is not started with what a supervisor registers, but /invocations looks there alone. */
    private static void callStartupModels(Set<String> names) {
        Set<String> startup = ModelManager.getInstance().getStartupModels();
        startup.retainAll(names);
        startup.addAll(names);
    }

    static synchronized Health health() {
        if (Flight.draining) {
            return Health.DRAINING;
        }
        Collection<Workers> all = look();
        if (all.stream().anyMatch(Workers::hasFailed)) {
            return Health.UNHEALTHY;
        }
        if (!complete || all.stream().anyMatch(Workers::isAwaited)) {
            return Health.LOADING;
        }
        boolean partial = all.stream().anyMatch(seen -> seen.loaded && seen.alive < seen.wanted);
        return partial ? Health.PARTIAL : Health.HEALTHY;
    }

    private void update() {
        threads = ModelManager.getInstance().getWorkers(model.getModelName());
        threads.removeIf(Objects::isNull); // a copy of a list that others write meanwhile
        threads.forEach(this::countRestarts);
        wanted = model.getMinWorkers();
        alive = (int) threads.stream().filter(Workers::isAlive).count();
        if (batches != null) {
            batches.serve(alive);
            Queue.catchUp(model);
        }
        loaded |= wanted > 0 && alive >= wanted;
        if (alive > 0 || wanted == 0) {
            aliveAt = System.nanoTime();
        }
    }

    /** WorkerThread.isRunning() stays true when the process has died; the state does not. */
    private static boolean isAlive(WorkerThread thread) {
        return thread.getState() == WorkerState.WORKER_MODEL_LOADED;
    }

    /**
     * MMS puts "-CHANNEL" behind a worker's id each time it connects to a new process
     * (WorkerThread.connect), so that no start between two looks is missed.
     */
    private void countRestarts(WorkerThread thread) {
        int now = Math.max(1, thread.getWorkerId().split("-").length - 1);
        Integer before = starts.put(thread, now);
        restarts += now - (before == null ? 1 : before);
    }

    /** Models that come later keep none from serving; without a supervisor none is known to. */
    private boolean isAwaited() {
        boolean later = Plugin.MULTI_MODEL || Plugin.READY_FILE != null;
        return wanted > 0 && !loaded && !later;
    }

    private boolean hasFailed() {
        return loaded && System.nanoTime() - aliveAt > PATIENCE_NS;
    }

    private static int expected() {
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

    /** How many models MMS's ALL means (ModelServer.initModelStore). */
    private static int archives(File store) {
        File[] models = store.listFiles(Workers::isModel);
        return models == null ? 0 : models.length;
    }

    private static boolean isModel(File file) {
        boolean archive = !file.isFile() || file.getName().matches(".*\\.(mar|model)");
        return archive && !file.isHidden();
    }
}
