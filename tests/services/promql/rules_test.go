// Prometheus' own parser on files of rules, and its own engine on a script of its own test language.
package main

import (
	"os"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/promqltest"
)

func TestRules(t *testing.T) {
	_, errs := rulefmt.ParseFile(os.Getenv("RULES"), false, model.UTF8Validation)
	for _, err := range errs {
		t.Error(err)
	}
}

func TestScript(t *testing.T) {
	script, err := os.ReadFile(os.Getenv("SCRIPT"))
	if err != nil {
		t.Fatal(err)
	}
	promqltest.RunTest(t, string(script), promqltest.NewTestEngine(t, false, 0, promqltest.DefaultMaxSamplesPerQuery))
}
