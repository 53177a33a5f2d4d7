package mms_handler;

import com.amazonaws.ml.mms.metrics.Dimension;
import com.amazonaws.ml.mms.metrics.Metric;
import com.amazonaws.ml.mms.wlm.Model;
import com.amazonaws.ml.mms.wlm.ModelManager;
import com.amazonaws.ml.mms.wlm.WorkerThread;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.LongAdder;
import java.util.regex.Pattern;
import org.apache.logging.log4j.core.LogEvent;

/**
 * What a model's script has measured with MMS's {@code context.metrics}, over all its requests.
 *
 * <p>A script chooses names and values, so it chooses labels only, and few: no name of a family.
 */
final class ScriptMetrics {
    /** Names of one model; what has another name is left out. */
    private static final int MOST = 100;

    private static final Pattern NAME = Pattern.compile("\\w{1,100}");

    private static final Map<Model, ScriptMetrics> BY_MODEL = new ConcurrentHashMap<>();

    /** The models of the threads of MMS that read what a worker prints, by their names. */
    private static final Map<String, Model> BY_READER = new ConcurrentHashMap<>();

    private final Map<Key, Sum> sums = new TreeMap<>();

    /** Values that were left out. */
    final LongAdder leftOut = new LongAdder();

    private ScriptMetrics() {}

    /** Read the metrics of all workers, which MMS would log. */
    static void follow() {
        LogReader.follow("MODEL_METRICS", ScriptMetrics::read);
    }

    private static void read(LogEvent event) {
        Object[] parameters = event.getMessage().getParameters();
        Object metric = parameters == null || parameters.length == 0 ? null : parameters[0];
        if (metric instanceof Metric) {
            Model model = BY_READER.computeIfAbsent(event.getThreadName(), ScriptMetrics::model);
            if (model != null) {
                BY_MODEL.computeIfAbsent(model, m -> new ScriptMetrics()).add((Metric) metric);
            }
        }
    }

    /** The model whose worker this thread reads; null if it is gone. */
    private static Model model(String reader) {
        ModelManager manager = ModelManager.getInstance();
        for (Model model : manager.getModels().values()) {
            for (WorkerThread worker : manager.getWorkers(model.getModelName())) {
                if (worker != null && reader.equals(MmsInternals.threadName(worker) + "-stdout")) {
                    return model;
                }
            }
        }
        return null;
    }

    /** The metrics of a registered model; null if its script has none. */
    static ScriptMetrics of(Model model) {
        return BY_MODEL.get(model);
    }

    /** Forget models that are not registered any more. */
    static void forgetOthers(Map<String, Model> registered) {
        BY_MODEL.keySet().removeIf(model -> registered.get(model.getModelName()) != model);
        BY_READER.values().removeIf(model -> registered.get(model.getModelName()) != model);
    }

    private synchronized void add(Metric metric) {
        Kind kind = Kind.of(metric);
        double value = Unit.of(metric).size * number(metric.getValue());
        Key key = new Key(kind, String.valueOf(metric.getMetricName()), metric.getUnit());
        boolean known = sums.containsKey(key);
        boolean named = NAME.matcher(key.name).matches() && NAME.matcher("_" + key.unit).matches();
        boolean fits = known || sums.size() < MOST && named;
        boolean counts = kind != Kind.EVENTS || value >= 0; // a counter does not fall
        if (!fits || !counts || Double.isNaN(value) || Double.isInfinite(value)) {
            leftOut.increment();
            return;
        }
        Sum sum = sums.computeIfAbsent(key, k -> new Sum());
        sum.count++;
        sum.total += value;
    }

    private static double number(String text) {
        try {
            return Double.parseDouble(text);
        } catch (NumberFormatException | NullPointerException e) {
            return Double.NaN;
        }
    }

    /** The sums of one kind, by what makes them different. */
    synchronized Map<Key, Sum> of(Kind kind) {
        Map<Key, Sum> found = new TreeMap<>();
        sums.forEach(
                (key, sum) -> {
                    if (key.kind == kind) {
                        Sum copy = new Sum();
                        copy.count = sum.count;
                        copy.total = sum.total;
                        found.put(key, copy);
                    }
                });
        return found;
    }

    /** The families of the page, by the method of {@code context.metrics} that was called. */
    enum Kind {
        EVENTS("script_events_total", "Sums of what scripts add with add_counter."),
        ERRORS("script_errors_total", "How often scripts call add_error."),
        TIMES("script_time_seconds", "What scripts add with add_time."),
        SIZES("script_size_bytes", "What scripts add with add_size."),
        SHARES("script_share_ratio", "What scripts add with add_percent; 1 is 100 %."),
        VALUES("script_value", "What scripts add with add_metric, with units of their own.");

        final String family;
        final String help;

        Kind(String family, String help) {
            this.family = family;
            this.help = help;
        }

        /** Whether only the sum matters. */
        boolean isCounter() {
            return family.endsWith("_total");
        }

        private static Kind of(Metric metric) {
            for (Dimension dimension : metric.getDimensions()) {
                if ("Level".equals(dimension.getName()) && "Error".equals(dimension.getValue())) {
                    return ERRORS;
                }
            }
            return Unit.of(metric).kind;
        }
    }

    /** MMS's names of units (metrics/unit.py), in units of the page. */
    private enum Unit {
        Count(Kind.EVENTS, 1),
        Milliseconds(Kind.TIMES, 1e-3),
        Seconds(Kind.TIMES, 1),
        Bytes(Kind.SIZES, 1),
        Kilobytes(Kind.SIZES, 1e3),
        Megabytes(Kind.SIZES, 1e6),
        Gigabytes(Kind.SIZES, 1e9),
        Percent(Kind.SHARES, 0.01),
        Other(Kind.VALUES, 1);

        private final Kind kind;
        private final double size;

        Unit(Kind kind, double size) {
            this.kind = kind;
            this.size = size;
        }

        private static Unit of(Metric metric) {
            for (Unit unit : values()) {
                if (unit != Other && unit.name().equalsIgnoreCase(metric.getUnit())) {
                    return unit;
                }
            }
            return Other;
        }
    }

    /** What a family has for each name. */
    static final class Key implements Comparable<Key> {
        final Kind kind;
        final String name;

        /** The unit, of values that have one of their own. */
        final String unit;

        Key(Kind kind, String name, String unit) {
            this.kind = kind;
            this.name = name;
            this.unit = kind == Kind.VALUES && unit != null ? unit : "";
        }

        @Override
        public int compareTo(Key other) {
            int byKind = kind.compareTo(other.kind);
            int byName = byKind == 0 ? name.compareTo(other.name) : byKind;
            return byName == 0 ? unit.compareTo(other.unit) : byName;
        }
    }

    /** How many values there were, and their sum. */
    static final class Sum {
        long count;
        double total;
    }
}
