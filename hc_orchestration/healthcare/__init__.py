"""Who was studied, by whom and why; and the FHIR R4 record of an evaluation."""
