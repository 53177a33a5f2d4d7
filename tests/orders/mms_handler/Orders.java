package mms_handler;

import com.amazonaws.ml.mms.util.ConfigManager;
import com.amazonaws.ml.mms.wlm.ModelManager;
import java.io.IOException;

/**
 * Tries orders of events: {@code java mms_handler.Orders lane FIRST_SEED COUNT}, or one of them
 * with all that happens: {@code java mms_handler.Orders lane SEED}.
 */
public final class Orders {
    private Orders() {}

    public static void main(String[] arguments) throws IOException {
        long first = Long.parseLong(arguments[1]);
        boolean traced = arguments.length < 3;
        long count = traced ? 1 : Long.parseLong(arguments[2]);
        ConfigManager.init(new ConfigManager.Arguments());
        ModelManager.init(null, null); // it has no models
        long start = System.nanoTime();
        for (long seed = first; seed < first + count; seed++) {
            StringBuilder trace = traced ? new StringBuilder() : null;
            try {
                order(arguments[0], seed, trace).run();
            } catch (AssertionError e) {
                System.out.println("seed " + seed + ": " + e.getMessage());
                if (traced) {
                    System.out.print(trace);
                    e.printStackTrace(System.out);
                }
                System.exit(1);
            }
            if (traced) {
                System.out.print(trace);
            }
        }
        double seconds = (System.nanoTime() - start) / 1e9;
        System.out.printf("%d orders, %.0f a second%n", count, count / seconds);
        System.exit(0);
    }

    private static Order order(String events, long seed, StringBuilder trace) {
        switch (events) {
            case "lane":
                return new LaneOrders(seed, trace);
            case "clients":
                return new ClientOrders(seed, trace);
            default:
                return new ConnectionOrders(seed, trace);
        }
    }
}
