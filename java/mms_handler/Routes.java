package mms_handler;

import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.atomic.AtomicInteger;

/**
 * Which version of a model answers a request.  The supervisor replaces this table as a whole, so each
 * request is answered by the table from before a change, or by the one from after it.
 *
 * <p>MMS has each version as a model of its own, under a name that clients do not see.
 */
final class Routes {
    /** Null until the supervisor says what there is; there may be no supervisor. */
    private static volatile Routes current = expected();

    /** The model of /invocations without a name; "" if there is none. */
    final String invocations;

    private final Map<String, Route> byName = new HashMap<>();
    private final Map<String, Version> byMmsName = new HashMap<>();

    private Routes(String invocations) {
        this.invocations = invocations;
    }

    /** The table of this moment; null if every request is for MMS as it came. */
    static Routes current() {
        return current;
    }

    /** Until the supervisor says more, the models with which it was started are being loaded. */
    private static Routes expected() {
        if (Plugin.STARTUP_MODELS == null) {
            return null;
        }
        boolean only = Plugin.STARTUP_MODELS.size() == 1 && !Plugin.MULTI_MODEL;
        Routes routes = new Routes(only ? String.join("", Plugin.STARTUP_MODELS) : "");
        for (String name : Plugin.STARTUP_MODELS) {
            routes.add(new Version(name, "", name, State.LOADING, 100, System.nanoTime()));
        }
        routes.byName.values().forEach(Route::schedule);
        return routes;
    }

    /**
     * Replace the table.
     *
     * @param lines one with the model of /invocations, which may be empty, and one for each version:
     *     NAME VERSION MMS_NAME STATE PERCENT
     */
    static synchronized void set(List<String> lines) {
        Routes routes = new Routes(lines.get(0));
        for (String line : lines.subList(1, lines.size())) {
            String[] words = line.split(" ");
            State state = State.valueOf(words[3]);
            Version before = current == null ? null : current.byMmsName.get(words[2]);
            boolean same = before != null && before.state == state;
            long sinceNs = same ? before.sinceNs : System.nanoTime();
            int percent = Integer.parseInt(words[4]);
            routes.add(new Version(words[0], words[1], words[2], state, percent, sinceNs));
        }
        routes.byName.values().forEach(Route::schedule);
        current = routes;
    }

    private void add(Version version) {
        byName.computeIfAbsent(version.name, name -> new Route()).versions.add(version);
        byMmsName.put(version.mmsName, version);
    }

    /**
     * The version that is to answer a request; null if there is no such version.
     *
     * @param version the one that the client asks for; null if it leaves the choice to the server
     */
    Version choose(String name, String version) {
        Route route = byName.get(name);
        if (route == null) {
            return null;
        }
        return version == null ? route.next() : route.named(version);
    }

    /** The version that a client names; where several may answer, the main one; null: none. */
    static Version main(String name, String version) {
        Routes routes = current;
        Route route = routes == null ? null : routes.byName.get(name);
        if (route == null) {
            return null;
        }
        return version == null ? route.turns[0] : route.named(version);
    }

    /** MMS's name of what a request is for; where several versions may answer, of the main one. */
    static String mmsName(String name, String version) {
        Routes routes = current;
        Route route = routes == null ? null : routes.byName.get(name);
        if (route == null) {
            return name;
        }
        Version found = version == null ? route.turns[0] : route.named(version);
        return found == null ? "" : found.mmsName;
    }

    /** Whether some model, whichever it is, is being loaded. */
    boolean isLoading() {
        return byMmsName.values().stream().anyMatch(v -> v.state == State.LOADING);
    }

    /** The version that MMS has under this name; null if it is none of the table's. */
    static Version version(String mmsName) {
        Routes routes = current;
        return routes == null ? null : routes.byMmsName.get(mmsName);
    }

    /** Whether MMS's model gets requests that name no version. */
    static boolean isServed(String mmsName) {
        Version version = version(mmsName);
        return version == null ? current == null : version.percent > 0;
    }

    /** The labels of the metrics of MMS's model: names and values in turn. */
    static String[] labels(String mmsName) {
        Version version = version(mmsName);
        return version == null
                ? labels(mmsName.split("~", 2)) // it is about to end
                : new String[] {"model", version.name, "version", version.version};
    }

    private static String[] labels(String[] nameAndVersion) {
        return nameAndVersion.length == 1
                ? new String[] {"model", nameAndVersion[0]}
                : new String[] {"model", nameAndVersion[0], "version", nameAndVersion[1]};
    }

    /** How long the model that is being loaded for the longest time has not been served. */
    static long longestLoadingNs() {
        Routes routes = current;
        long now = System.nanoTime();
        return routes == null
                ? 0
                : routes.byMmsName.values().stream()
                        .filter(v -> v.state == State.LOADING && v.percent > 0)
                        .mapToLong(v -> Math.max(1, now - v.sinceNs))
                        .max()
                        .orElse(0);
    }

    /** What a version can do for a client. */
    enum State {
        /** It answers. */
        READY,
        /** It answered, or is expected to: the server is not well before it does. */
        LOADING,
        /** It is being added. */
        NEW,
        /** It is registered without workers. */
        IDLE
    }

    /** A version of a model. */
    static final class Version {
        final String name;
        final String version;
        final String mmsName;
        final State state;
        final int percent;
        private final long sinceNs;

        private Version(
                String name, String version, String mmsName, State state, int percent, long sinceNs) {
            this.name = name;
            this.version = version;
            this.mmsName = mmsName;
            this.state = state;
            this.percent = percent;
            this.sinceNs = sinceNs;
        }
    }

    /** The versions of one model, and whose turn it is. */
    private static final class Route {
        final List<Version> versions = new ArrayList<>();
        private final AtomicInteger requests = new AtomicInteger();
        private Version[] turns;

        Version named(String version) {
            for (Version each : versions) {
                if (each.version.equals(version)) {
                    return each;
                }
            }
            return null;
        }

        Version next() {
            return turns.length == 1
                    ? turns[0]
                    : turns[Math.floorMod(requests.getAndIncrement(), turns.length)];
        }

        /**
         * Give each version as many turns of a hundred as its percentage, evenly spread: at each turn,
         * all come closer by their percentage, and the one that is closest has it.
         */
        void schedule() {
            List<Version> served = new ArrayList<>(versions);
            served.removeIf(version -> version.percent == 0);
            if (served.size() < 2) {
                turns = new Version[] {served.isEmpty() ? versions.get(0) : served.get(0)};
                return;
            }
            turns = new Version[served.stream().mapToInt(version -> version.percent).sum()];
            List<Integer> closeness = new ArrayList<>(Collections.nCopies(served.size(), 0));
            for (int turn = 0; turn < turns.length; turn++) {
                for (int i = 0; i < served.size(); i++) {
                    closeness.set(i, closeness.get(i) + served.get(i).percent);
                }
                int closest = closeness.indexOf(Collections.max(closeness));
                closeness.set(closest, closeness.get(closest) - turns.length);
                turns[turn] = served.get(closest);
            }
        }
    }
}
