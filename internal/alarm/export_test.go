package alarm

// Topic is the name of a class at the OpenFaaS vcenter-connector.
func Topic(class Class) string {
	r, _ := rowOf(string(class))
	return r.topic
}
