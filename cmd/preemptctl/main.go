package main

import (
	"fmt"

	"github.com/spf13/cobra"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/contrib/envconfig"
	"sigs.k8s.io/yaml"

)

func main() {
	c, _ := client.NewLazyClient(client.Options{})
	_, _ = envconfig.LoadClientOptions(envconfig.LoadClientOptionsRequest{})
	cmd := &cobra.Command{}
	b, _ := yaml.Marshal(1)
	fmt.Println(c, cmd.Execute(), string(b))
}
