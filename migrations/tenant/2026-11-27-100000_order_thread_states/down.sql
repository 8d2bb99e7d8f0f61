DROP TABLE thread_states;
