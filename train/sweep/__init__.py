"""Many trainings on one store: which settings of the regressor predict best."""
