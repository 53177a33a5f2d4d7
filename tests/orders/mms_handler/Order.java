package mms_handler;

/** One order of events. */
interface Order {
    /** Let everything happen; throws AssertionError if something is wrong. */
    void run();
}
