package mms_handler;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Paths;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;

/**
 * What only the supervisor knows: it writes a file, which is read when the page is made.  Each line has
 * a family, a model, its version, the value of the family's own label, and a number, with tabs between.
 */
final class Told {
    private static final int FIELDS = 5;

    private Told() {}

    static void show(Page page) {
        if (Plugin.TOLD_FILE == null) {
            return;
        }
        List<String[]> lines = lines();
        show(
                page,
                lines,
                "worker_deaths_total",
                "counter",
                "Workers and listeners that died: of a signal, for want of memory, or by an exit.",
                "cause");
        show(
                page,
                lines,
                "model_load_seconds",
                "gauge",
                "How long the latest load of a model took, by its phases.",
                "phase");
    }

    private static void show(
            Page page, List<String[]> lines, String family, String type, String help, String label) {
        page.family(family, type, help);
        for (String[] line : lines) {
            if (line[0].equals(family)) {
                double value = Double.parseDouble(line[4]);
                page.sample(family, value, "model", line[1], "version", line[2], label, line[3]);
            }
        }
    }

    private static List<String[]> lines() {
        List<String> text;
        try {
            text = Files.readAllLines(Paths.get(Plugin.TOLD_FILE), StandardCharsets.UTF_8);
        } catch (IOException e) { // it is not written yet
            return Collections.emptyList();
        }
        List<String[]> lines = new ArrayList<>();
        for (String line : text) {
            String[] fields = line.split("\t", -1);
            if (fields.length == FIELDS) {
                lines.add(fields);
            }
        }
        return lines;
    }
}
