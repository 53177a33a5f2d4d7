package mms_handler;

/** One order of events. */
interface Order {
    /** Let everything happen; throws AssertionError if something is wrong. */
    void run();

    /** Say what is wrong, unless the condition holds. */
    static void expect(boolean condition, String words) {
        if (!condition) {
            throw new AssertionError(words);
        }
    }
}
