package mms_handler;

import java.util.function.Consumer;
import org.apache.logging.log4j.Level;
import org.apache.logging.log4j.LogManager;
import org.apache.logging.log4j.core.LogEvent;
import org.apache.logging.log4j.core.LoggerContext;
import org.apache.logging.log4j.core.appender.AbstractAppender;
import org.apache.logging.log4j.core.config.Configuration;
import org.apache.logging.log4j.core.config.LoggerConfig;
import org.apache.logging.log4j.core.config.Property;

/** Reads all that one of MMS's loggers logs. */
final class LogReader extends AbstractAppender {
    private final Consumer<LogEvent> read;

    private LogReader(String logger, Consumer<LogEvent> read) {
        super("mms_handler_" + logger, null, null, true, Property.EMPTY_ARRAY);
        this.read = read;
    }

    /** Call {@code read} with each event, without changing whether it is written. */
    static void follow(String name, Consumer<LogEvent> read) {
        LoggerContext context = (LoggerContext) LogManager.getContext(false);
        Configuration configuration = context.getConfiguration();
        LoggerConfig logger = configuration.getLoggerConfig(name);
        boolean written = logger.getLevel().isLessSpecificThan(Level.INFO);
        if (!written || !logger.getName().equals(name)) {
            logger = new LoggerConfig(name, Level.INFO, written);
            configuration.removeLogger(name);
            configuration.addLogger(name, logger);
        }
        LogReader reader = new LogReader(name, read);
        reader.start();
        logger.addAppender(reader, null, null);
        context.updateLoggers();
    }

    @Override
    public void append(LogEvent event) {
        read.accept(event);
    }
}
