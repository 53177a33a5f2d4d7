package mms_handler;

/** A request took too long; its name is the answer's type. */
final class TimedOut extends Exception {
    private static final long serialVersionUID = 1L;

    TimedOut(String message) {
        super(message);
    }
}
