package mms_handler;

import java.util.Arrays;
import java.util.List;

/** A page of metrics in Prometheus's text format 0.0.4. */
final class Page {
    private static final String PREFIX = "mms_handler_";

    private final StringBuilder lines = new StringBuilder();

    /** The families that are asked for, with the prefix; null for all. */
    private final List<String> asked;

    private boolean skips;

    Page(List<String> asked) {
        this.asked = asked;
    }

    /** Whether a family is asked for. */
    boolean has(String name) {
        return asked == null || asked.contains(PREFIX + name);
    }

    /** Begin a family: its samples come next. */
    void family(String name, String type, String help) {
        skips = !has(name);
        if (!skips) {
            lines.append("# HELP ").append(PREFIX).append(name).append(' ').append(help);
            lines.append("\n# TYPE ").append(PREFIX).append(name).append(' ').append(type);
            lines.append('\n');
        }
    }

    /** @param more names and values of labels in turn, after those of the model */
    void sample(String name, double value, String[] model, String... more) {
        if (!skips) {
            sample(name, value, with(model, more));
        }
    }

    static String[] with(String[] labels, String... more) {
        String[] all = Arrays.copyOf(labels, labels.length + more.length);
        System.arraycopy(more, 0, all, labels.length, more.length);
        return all;
    }

    /** @param labels names and values in turn */
    void sample(String name, double value, String... labels) {
        if (skips) {
            return;
        }
        lines.append(PREFIX).append(name);
        for (int i = 0; i < labels.length; i += 2) {
            lines.append(i == 0 ? '{' : ',').append(labels[i]).append("=\"");
            label(labels[i + 1]);
            lines.append('"');
        }
        lines.append(labels.length == 0 ? " " : "} ").append(number(value)).append('\n');
    }

    /** Cumulative buckets, sum and count. */
    void histogram(String name, Histogram values, String[] model, String... more) {
        if (skips) {
            return;
        }
        String[] labels = with(model, more);
        long[] counts = values.counts();
        long total = 0;
        for (int i = 0; i < counts.length; i++) {
            total += counts[i];
            boolean last = i == values.bounds.length;
            String bound = last ? "+Inf" : number((double) values.bounds[i] / values.perUnit);
            sample(name + "_bucket", total, labels, "le", bound);
        }
        sample(name + "_sum", (double) values.sum() / values.perUnit, labels);
        sample(name + "_count", total, labels);
    }

    private void label(String value) {
        for (int i = 0; i < value.length(); i++) {
            char c = value.charAt(i);
            if (c == '"' || c == '\\') {
                lines.append('\\').append(c);
            } else {
                lines.append(Character.isISOControl(c) || Character.isSurrogate(c) ? '_' : c);
            }
        }
    }

    private static String number(double value) {
        if (value == Math.rint(value) && Math.abs(value) < 1e15) {
            return String.valueOf((long) value);
        }
        return Double.isInfinite(value) ? (value > 0 ? "+Inf" : "-Inf") : String.valueOf(value);
    }

    @Override
    public String toString() {
        return lines.toString();
    }
}
