"""Pictures of nets and of their training, drawn without a display."""
