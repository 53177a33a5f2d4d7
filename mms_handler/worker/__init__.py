"""The program inside MMS: one process, one model.  It loads a model_dir and answers batches."""
